# SPDX-License-Identifier: GPL-2.0-or-later
"""Root in a chroot of the mock engine, by each way in which a package's code gets to be root."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.attack import evil
from tests.component.cloud_nodes import eventually
from tests.component.engine_node import EngineNode, why_no_lab
from tests.component.mock_engine import INPUTS, MockSite, packed_mock
from tests.lab.http import FileServer
from tests.lab.layout import default_lab

LAB = default_lab()
_WHY_NOT = why_no_lab(LAB) or evil.why_no_probe()
pytestmark = [pytest.mark.lab, pytest.mark.skipif(bool(_WHY_NOT), reason=_WHY_NOT or "-")]
ATTACK = (
    "each known way out of a chroot: chroot(2), /proc, mounts, devices, kernel settings, ptrace"
)


class EvilSite:
    """A warm node that runs real mock, the lab's repository and the evil one."""

    def __init__(self, site: MockSite, package: Path) -> None:
        self.site = site
        self.package = package
        text = site.options["dnf.conf"] + evil.repository_text(f"{site.server.url}/evil")
        self.options: dict[str, Any] = {"dnf.conf": text}


@pytest.fixture(scope="module")
def evils(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EvilSite]:
    directory = tmp_path_factory.mktemp("evil-mock")
    kit = packed_mock(directory / "kit")
    package = evil.make_repository(directory / "evil")
    server = FileServer({"/dist": LAB.dist, "/evil": directory / "evil"})
    with (
        server,
        evil.service_of_the_node(),
        EngineNode(LAB, directory / "node", files=evil.NODE_FILES) as node,
    ):
        evil.plant_job(node)
        yield EvilSite(MockSite(node, LAB, server, kit, directory / "sources"), package)
    shutil.rmtree(directory)


@pytest.mark.attack("%post, mock engine", ATTACK, "none leads to the node")
def test_a_scriptlet_of_a_local_package_stays_in_mocks_jail(evils: EvilSite) -> None:
    site = evils.site
    item = site.node.put(evils.package, "package")
    ended = site.run(
        "install", "--install", f"{INPUTS}/package/{item.name}", inputs=(item,), foreign=True
    )
    assert ended.exit == 0, ended.stderr
    assert not evil.ways_out(ended.log("root.log"))
    assert not evil.planted(site.node)


@pytest.mark.attack("%build, mock engine", ATTACK, "none leads to the node")
@pytest.mark.attack(
    "an evil build", "leaves files, processes, keys, IPC, networks", "the next build has none"
)
def test_an_evil_build_stays_in_mocks_jail_and_leaves_nothing(evils: EvilSite) -> None:
    site = evils.site
    source = site.source("bad", head="BuildRequires: evil", build="cat /probe-report; probe")
    ended = site.rebuild(source, options=evils.options, foreign=True)
    assert ended.exit == 0, ended.stderr
    assert not evil.ways_out(ended.log("build.log"))
    assert not evil.planted(site.node)
    eventually(lambda: not site.node.processes())
    assert not evil.kept_namespaces(site.node)
    probe = base64.encodebytes((evils.package.parent.parent / "probe").read_bytes()).decode()
    put = f"base64 -d > /tmp/looks <<'E'\n{probe}E\nchmod +x /tmp/looks\n/tmp/looks x"
    ended = site.rebuild(site.source("looks", build=put))
    assert ended.exit == 0, ended.stderr
    assert not evil.traces(ended.log("build.log"))


@pytest.mark.attack("%build, mock engine", "puts objects into ccache", "the next build has none")
def test_what_a_build_put_into_ccache_is_not_in_the_next_one(evils: EvilSite) -> None:
    """As with a signed ccache: by a build's user, no code of whom anybody signed."""
    site = evils.site
    options = {**evils.options, "plugin_conf": {"ccache_enable": True}}
    source = site.source("puts", build='echo planted > "$CCACHE_DIR/object"')
    assert site.rebuild(source, options=options).exit == 0
    source = site.source("takes", build='echo "objects: $(ls "$CCACHE_DIR")"')
    ended = site.rebuild(source, options=options)
    assert ended.exit == 0, ended.stderr
    assert "objects: \n" in ended.log("build.log")
