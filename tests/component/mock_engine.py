# SPDX-License-Identifier: GPL-2.0-or-later
"""A lab node that runs real mock: requests as a controller makes them, with the machine's mock."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mock_cloud.toolkit.mock_kit import MockKit, pack_mock
from mock_cloud.wire.job_request import JOB_DIRECTORY, Input, JobRequest, MockRun
from tests.component.engine_node import Ended, EngineNode, engine_config, make_source
from tests.lab import chroots
from tests.lab.http import FileServer
from tests.lab.layout import Lab, default_lab
from tests.tree_archives import pack

ROOT = "lab-1-x86_64"
INPUTS = f"{JOB_DIRECTORY}/inputs"


def packed_mock(cache: Path) -> MockKit:
    """The machine's mock as a kit; skips the test if it has none."""
    named = os.environ.get("MOCK_CLOUD_TEST_MOCK")
    script = Path(named or "/usr/libexec/mock/mock")
    if not script.is_file():
        pytest.skip("no mock on this machine: install it, or set MOCK_CLOUD_TEST_MOCK=…/mock.py")
    python = os.environ.get("MOCK_CLOUD_TEST_MOCK_PYTHON") if named else None
    return pack_mock(cache, script, Path(python or "/usr/bin/python3"))


def mock_options(url: str) -> dict[str, Any]:
    """config_opts for the lab's release 1, served at `url`, as a controller renders them."""
    return {
        "root": ROOT,
        "target_arch": "x86_64",
        "legal_host_arches": ["x86_64"],
        "chroot_setup_cmd": " ".join(["install", *chroots.buildroot_words(default_lab())]),
        "dist": "lab1",
        "releasever": "1",
        "package_manager": "dnf4",
        "use_bootstrap": False,
        "isolation": "auto",
        # For dnf in mock's bootstrap chroot, which looks for it there.
        "ssl_extra_certs": [f"{INPUTS}/gpgkey/lab.asc"] * 2,
        "macros": {
            "%_topdir": "/builddir/build",
            "%_rpmfilename": "%%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm",
            "%_dbpath": "/var/lib/rpm",
        },
        "dnf.conf": engine_config(url).dnf_conf.replace("@GPGKEYS@", f"{INPUTS}/gpgkey"),
    }


class MockSite:
    """A node, the distribution it installs from, and requests for the mock engine."""

    def __init__(
        self, node: EngineNode, lab: Lab, server: FileServer, kit: MockKit, sources: Path
    ) -> None:
        self.node = node
        self.lab = lab
        self.server = server
        self.kit = kit
        self.sources = sources
        self.options = mock_options(f"{server.url}/dist")

    def request(
        self, mode: str, *argv: str, inputs: tuple[Input, ...] = (),
        options: dict[str, Any] | None = None, foreign: bool = False, **changes: Any,
    ) -> JobRequest:  # fmt: skip
        kit = self.node.put(self.kit.path, "kit", "mock.tar.gz")
        key = self.node.put(self.lab.package_key, "gpgkey", "lab.asc")
        config = json.dumps({**self.options, **(options or {})})
        run = MockRun(ROOT, ROOT, list(argv), config, kit=kit.name, foreign=foreign)
        request = JobRequest(
            mode, mock=run, inputs=[kit, key, *inputs], resultdir="/home/user/result"
        )
        return replace(request, **changes)

    def run(self, mode: str, *argv: str, **changes: Any) -> Ended:
        return self.node.run(self.request(mode, *argv, **changes), timeout_s=400)

    def rebuild(self, *packages: Path, **changes: Any) -> Ended:
        inputs = tuple(self.node.put(path, "srpm") for path in packages)
        words = [f"{INPUTS}/srpm/{item.name}" for item in inputs]
        return self.run("rebuild", "--rebuild", *words, inputs=inputs, **changes)

    def chain(
        self, *packages: Path, words: tuple[str, ...] = (), built: tuple[Input, ...] = ()
    ) -> Ended:
        inputs = tuple(self.node.put(path, "srpm") for path in packages)
        argv = ["--chain", "--tmp_prefix=remote", *words]
        argv += [f"{INPUTS}/srpm/{item.name}" for item in inputs]
        return self.run("chain", *argv, inputs=(*inputs, *built))

    def shell(self, command: str, **changes: Any) -> Ended:
        return self.run("shell", "--shell", "--", command, **changes)

    def own(self, command: str = "true") -> Ended:
        """A shell by the node's own mock: no kit."""
        request = self.request("shell", "--shell", "--", command)
        assert request.mock is not None
        own = replace(request.mock, kit="")
        return self.node.run(replace(request, mock=own, inputs=request.inputs[1:]), timeout_s=400)

    def source(self, name: str, **parts: str) -> Path:
        return make_source(self.sources / name, name, **parts)

    def packed(self, role: str, name: str, directory: Path, *members: str) -> Input:
        """An archive of `members` of a directory, as an input."""
        self.sources.mkdir(exist_ok=True)
        packed = pack(self.sources / f"packed-{name}", *(directory / member for member in members))
        return self.node.put(packed, role, name)


@contextmanager
def mock_site(lab: Lab, directory: Path, **node: Any) -> Iterator[MockSite]:
    """A node of its own, with the machine's mock packed for it."""
    kit = packed_mock(directory / "kit")
    server = FileServer({"/dist": lab.dist})
    with server, EngineNode(lab, directory / "node", **node) as one:
        yield MockSite(one, lab, server, kit, directory / "sources")
    shutil.rmtree(directory)
