# SPDX-License-Identifier: GPL-2.0-or-later
"""`make demo`: a package built on an attested local node, and a tampered node refused.

Everything it shows is done by the commands it prints; nothing is simulated.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.lab import chroots, srpm
from tests.lab.chroots import ConfigDirectory
from tests.lab.copies import change_a_byte
from tests.lab.http import FileServer
from tests.lab.layout import Lab, LabError

VICTIM = "usr/bin/x86_64-linux-gnu-gcc-12"
REFUSED = 77


def perform(lab: Lab, own_srpm: Path | None) -> None:
    """Run the demonstration. LabError at the first thing that is not as it should be."""
    place = lab.root / "demo"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    package = own_srpm if own_srpm is not None else srpm.build(lab, srpm.hello(lab))
    with ExitStack() as stack:
        server = stack.enter_context(FileServer({"/dist": lab.dist}))
        config = chroots.write(lab, place / "etc" / "mock", repository_url=f"{server.url}/dist")
        _write_tampered_remote(config, place)
        show = Show(place, config)
        stack.callback(show.quietly, "mock-cloud", "release", "--all")
        _build(show, package, server)
        _refuse(show, lab, package, place)


class Show:
    """Runs commands as a user would, with a state of their own, and shows them."""

    def __init__(
        self, place: Path, config: ConfigDirectory, extra: Mapping[str, str] | None = None
    ) -> None:
        self.place = place
        self.config = config
        self._bin = Path(sys.executable).parent
        self._env: Mapping[str, str] = {
            **os.environ,
            "PATH": f"{self._bin}:{os.environ.get('PATH', os.defpath)}",
            "XDG_STATE_HOME": str(place / "state"),
            **(extra or {}),
        }

    def heading(self, text: str) -> None:
        print(f"\n== {text}", flush=True)

    def run(self, *argv: str, expect: int = 0) -> float:
        """Show and run a command; seconds it took. LabError for another exit status."""
        print(f"$ {shlex.join(argv)}", flush=True)
        started_s = time.monotonic()
        done = subprocess.run([str(self._bin / argv[0]), *argv[1:]], env=self._env, check=False)
        print(f"  (exit status {done.returncode})", flush=True)
        if done.returncode != expect:
            raise LabError(f"{argv[0]} ended with {done.returncode}, not {expect}")
        return time.monotonic() - started_s

    def quietly(self, *argv: str) -> None:
        command = [str(self._bin / argv[0]), *argv[1:]]
        subprocess.run(command, env=self._env, check=False, stderr=subprocess.DEVNULL)

    def mock(self, remote: str, results: Path, package: Path) -> Sequence[str]:
        options = ("--configdir", str(self.config.path), "-r", self.config.chroot())
        return ("mock", *options, "--remote", remote, "--resultdir", str(results), str(package))


def _build(show: Show, package: Path, server: FileServer) -> None:
    results = show.place / "results"
    configdir = str(show.config.path)
    show.heading("the remote: an RPM tree of the lab's distribution, booted in namespaces")
    show.run("mock-cloud", "doctor", "local", "--configdir", configdir)
    show.heading(f"build {package.name} on a new node")
    cold_s = show.run(*show.mock("local", results, package))
    show.heading("what came back, in the local directory")
    for path in sorted(results.iterdir()):
        print(f"  {path.stat().st_size:>9,}  {path.name}")
    if not list(results.glob("*.rpm")):
        raise LabError("no package came back")
    show_file(results / "remote_order.log", "the node's own log")
    show.heading("once more, on the warm node: repositories asked, nothing downloaded")
    server.forget_accesses()
    warm_s = show.run(*show.mock("local", results, package))
    paths = [access.path for access in server.accesses()]
    packages = [path for path in paths if path.endswith(".rpm")]
    asked = f"{len(packages)} packages" if packages else " ".join(paths)
    print(f"  {cold_s:.1f} s cold, {warm_s:.1f} s warm; requests: {asked or 'none'}")
    show.run("mock-cloud", "nodes")


def _refuse(show: Show, lab: Lab, package: Path, place: Path) -> None:
    show.heading(f"a second node, with one byte changed in its /{VICTIM}")
    change_a_byte(lab.tree, place / "tampered", VICTIM)
    results = place / "refused"
    show.run(*show.mock("tampered", results, package), expect=REFUSED)
    print("  in its result directory:", " ".join(sorted(path.name for path in results.iterdir())))
    show_file(results / "remote_attestation.log", "the verdict")
    show_file(results / "remote_order.log", "the node's own log: no blob, no job")
    if " blob " in (results / "remote_order.log").read_text():
        raise LabError("a refused node was sent something")
    if list(results.glob("*.rpm")):
        raise LabError("a refused node gave results")


def _write_tampered_remote(config: ConfigDirectory, place: Path) -> None:
    text = config.remote_file.read_text()
    lines = [
        f'image = "{place}/tampered"' if line.startswith("image = ") else line
        for line in text.splitlines()
    ]
    config.remote_file.with_name("tampered.toml").write_text("\n".join(lines) + "\n")


def show_file(path: Path, title: str) -> None:
    print(f"  {title} ({path.name}):")
    for line in path.read_text().splitlines():
        print(f"    {line}")
