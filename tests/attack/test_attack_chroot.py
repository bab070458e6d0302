# SPDX-License-Identifier: GPL-2.0-or-later
"""Root in a chroot of the chroot engine, by each way in which a package's code gets to be root."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mock_cloud.wire.job_request import EngineConfig, JobRequest
from tests.attack import evil
from tests.component.cloud_nodes import eventually
from tests.component.engine_node import Ended, EngineNode, engine_config, make_source, why_no_lab
from tests.lab.http import FileServer
from tests.lab.layout import default_lab
from tests.tree_archives import pack

LAB = default_lab()
_WHY_NOT = why_no_lab(LAB) or evil.why_no_probe()
pytestmark = [pytest.mark.lab, pytest.mark.skipif(bool(_WHY_NOT), reason=_WHY_NOT or "-")]
ATTACK = (
    "each known way out of a chroot: chroot(2), /proc, mounts, devices, kernel settings, ptrace"
)


class Site:
    """A warm node, the lab's repository and the evil one."""

    def __init__(self, node: EngineNode, url: str, directory: Path) -> None:
        self.node = node
        self.package = evil.make_repository(directory / "evil")
        self.directory = directory
        self.clean = engine_config(f"{url}/dist")
        text = self.clean.dnf_conf + evil.repository_text(f"{url}/evil")
        self.config = replace(self.clean, dnf_conf=text)

    def run(
        self, mode: str, *words: str, config: EngineConfig | None = None,
        inputs: tuple[tuple[Path, str], ...] = (), **changes: Any,
    ) -> Ended:  # fmt: skip
        given = [
            (LAB.package_key, "gpgkey", "lab.asc"),
            *((path, role, "") for path, role in inputs),
        ]
        put = [self.node.put(*one) for one in given]
        request = JobRequest(mode, config or self.config, args=list(words), inputs=put)
        return self.node.run(replace(request, **changes))

    def build(self, name: str, *, config: EngineConfig | None = None, **parts: str) -> Ended:
        source = make_source(self.directory / name, name, **parts)
        return self.run("rebuild", source.name, inputs=((source, "srpm"),), config=config)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("evil")
    server = FileServer({"/dist": LAB.dist, "/evil": directory / "evil"})
    with (
        server,
        evil.service_of_the_node(),
        EngineNode(LAB, directory / "node", files=evil.NODE_FILES) as node,
    ):
        evil.plant_job(node)
        yield Site(node, server.url, directory)
    shutil.rmtree(directory)


@pytest.mark.slow
@pytest.mark.attack("%post, chroot engine", ATTACK, "none leads to the node")
def test_a_scriptlet_of_a_local_package_stays_in_the_chroot(site: Site) -> None:
    ended = site.run("install", site.package.name, inputs=((site.package, "package"),))
    assert ended.exit == 0, ended.stderr
    assert not evil.ways_out(ended.log("root.log"))
    assert not evil.planted(site.node)


@pytest.mark.attack("%post, chroot engine", ATTACK, "none leads to the node")
def test_a_scriptlet_of_a_build_requirement_stays_in_the_chroot(site: Site) -> None:
    ended = site.build("wants-evil", head="BuildRequires: evil", build="cat /probe-report")
    assert ended.exit == 0, ended.stderr
    assert not evil.ways_out(ended.log("build.log"))


@pytest.mark.attack("%post, chroot engine", "plants files in dnf's cache", "no later job has them")
def test_what_a_scriptlet_wrote_to_the_cache_is_not_kept(site: Site) -> None:
    assert site.build("wants-evil", head="BuildRequires: evil").exit == 0
    cache = site.node.workspace / "dnf"
    assert not evil.planted(site.node)
    assert not [path for path in cache.rglob("*.solv*") if path.read_bytes().endswith(b"planted")]


@pytest.mark.attack("%build, chroot engine", ATTACK, "none leads to the node")
def test_a_set_uid_program_in_a_build_stays_in_the_chroot(site: Site) -> None:
    ended = site.build("root-by-set-uid", head="BuildRequires: evil", build="/usr/bin/probe")
    assert ended.exit == 0, ended.stderr
    assert not evil.ways_out(ended.log("build.log"))


@pytest.mark.attack("--shell, chroot engine", ATTACK, "none leads to the node")
def test_root_in_a_shell_stays_in_the_chroot(site: Site) -> None:
    assert site.run("install", "evil").exit == 0
    ended = site.run("shell", "/usr/bin/probe")
    assert ended.exit == 0, ended.stderr
    assert not evil.ways_out(ended.stdout.decode())


@pytest.mark.attack("%post, chroot engine", ATTACK, "none leads to the node")
def test_a_scriptlet_of_a_chain_stays_in_the_chroot(site: Site) -> None:
    lower = make_source(
        site.directory / "lower", "lower", head="Requires: evil", requires="%post\n/usr/bin/probe"
    )
    upper = make_source(
        site.directory / "upper", "upper", head="BuildRequires: lower", build="cat /probe-report"
    )
    names = [lower.name, upper.name]
    ended = site.run("chain", *names, inputs=((lower, "srpm"), (upper, "srpm")))
    assert ended.exit == 0, ended.stderr
    assert not evil.ways_out(ended.log("upper-1.0-1.lab1/build.log"))


@pytest.mark.attack(
    "an evil build", "leaves files, processes, keys, IPC, networks", "the next build has none"
)
def test_nothing_of_an_evil_build_is_seen_by_the_next(site: Site) -> None:
    evil_build = site.build("leaves", head="BuildRequires: evil", build="/usr/bin/probe")
    assert evil_build.exit == 0, evil_build.stderr
    eventually(lambda: not site.node.processes())
    assert not evil.kept_namespaces(site.node)
    put = f"base64 -d > /tmp/looks <<'E'\n{_encoded(site)}E\nchmod +x /tmp/looks\n/tmp/looks x"
    ended = site.build("looks", config=site.clean, build=put)
    assert ended.exit == 0, ended.stderr
    assert not evil.traces(ended.log("build.log"))
    packed = pack(site.directory / "in.tree", site.directory / "probe")
    put_in = site.run("copyin", "/", config=site.clean, inputs=((packed, "copyin"),))
    assert put_in.exit == 0, put_in.stderr
    assert not evil.traces(site.run("chroot", "/probe x", config=site.clean).stdout.decode())


def _encoded(site: Site) -> str:
    return base64.encodebytes((site.directory / "probe").read_bytes()).decode()
