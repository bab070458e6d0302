# SPDX-License-Identifier: GPL-2.0-or-later
"""`make demo`: a package built on an attested local node, and a tampered node refused.

Everything it shows is done by the commands it prints; nothing is simulated. README's first block is
what it prints.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.lab import background, chroots, srpm
from tests.lab.chroots import ConfigDirectory
from tests.lab.copies import change_a_byte
from tests.lab.http import FileServer
from tests.lab.layout import Lab, LabError

REFUSED = 77
# Of mock's lines; what it starts and finishes, and what dnf and rpmbuild print, goes to the file.
_MESSAGE = re.compile(r"(INFO|WARNING|ERROR|CRITICAL): |       ")
_SHOWN_LINES = 40  # of the output of a command that failed


def perform(lab: Lab, own_srpm: Path | None, place: Path) -> None:
    """Run the demonstration in `place`. LabError at the first thing that is not as it should be.

    It leaves the repositories served and the trusted node warm, for more builds: `stop` ends both.
    """
    stop(lab, place)
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    source = own_srpm if own_srpm is not None else srpm.build(lab, srpm.hello(lab))
    package = Path(shutil.copy(source, place))
    with ExitStack() as stack:
        server = stack.enter_context(FileServer({"/dist": lab.dist}))
        config = chroots.write(lab, place / "etc" / "mock", repository_url=f"{server.url}/dist")
        _write_tampered_remote(config, place)
        show = Show(place, config)
        unless_shown = stack.enter_context(ExitStack())
        unless_shown.callback(show.quietly, "mock-cloud", "release", "--all")
        _build(show, package, server)
        _refuse(show, lab, package, place)
        unless_shown.pop_all()
    background.start(lab, place, server.port)
    _summarize(show, place)


def stop(lab: Lab, place: Path) -> None:
    """End what an earlier demonstration in `place` left running; nothing if there was none."""
    if background.stop(place):
        Show(place, ConfigDirectory(place / "etc" / "mock", lab.arch)).quietly(
            "mock-cloud", "release", "--all"
        )


class Show:
    """Runs commands as a user would who read `environment_file`, in `place`, and shows them.

    What a command prints besides mock's messages goes to a file, which is shown if it fails.
    """

    def __init__(
        self, place: Path, config: ConfigDirectory, extra: Mapping[str, str] | None = None
    ) -> None:
        self.place = place
        self.config = config
        self._commands = Path(sys.executable).parent
        settings = {
            "XDG_CONFIG_HOME": str(config.path.parent),
            "XDG_STATE_HOME": str(place / "state"),
            **(extra or {}),
        }
        self._env = {
            **os.environ,
            "PATH": f"{self._commands}:{os.environ.get('PATH', os.defpath)}",
            **settings,
        }
        self._configdir = ("--configdir", str(config.path))
        self.environment_file = place / "env"
        lines = [f"PATH={shlex.quote(str(self._commands))}:$PATH"]
        lines += [f"export {name}={shlex.quote(value)}" for name, value in settings.items()]
        lines.append(f"alias mock={shlex.quote(shlex.join(('mock', *self._configdir)))}")
        self.environment_file.write_text("\n".join(lines) + "\n")

    def _command(self, argv: Sequence[str]) -> Sequence[str]:
        """What the shell makes of `argv` with the environment file."""
        program = self._commands / argv[0]
        if not program.exists():
            return argv
        extra = self._configdir if argv[0] == "mock" else ()
        return [str(program), *extra, *argv[1:]]

    def heading(self, text: str) -> None:
        print(f"\n# {text}", flush=True)

    def run(
        self,
        *argv: str,
        expect: int = 0,
        beside: Callable[[subprocess.Popen[str]], None] | None = None,
    ) -> float:
        """Show and run a command; seconds it took. LabError for another exit status.

        `beside` is called with it in a thread of its own, and may print and end it. A command that
        a signal ended has the signal's negative number.
        """
        print(f"$ {shlex.join(argv)}", flush=True)
        log = self.place / f"{time.monotonic_ns()}.log"
        began_s = time.monotonic()
        hidden = 0
        with (
            log.open("w") as copy,
            subprocess.Popen(
                self._command(argv), env=self._env, cwd=self.place, text=True, errors="replace",
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            ) as process,
        ):  # fmt: skip
            assert process.stdout is not None
            if beside is not None:
                threading.Thread(target=beside, args=(process,), daemon=True).start()
            for line in process.stdout:
                copy.write(line)
                if argv[0] != "mock" or _MESSAGE.match(line):
                    print(line, end="", flush=True)
                else:
                    hidden += 1
        if process.returncode != expect:
            if hidden:
                print("".join(log.read_text().splitlines(keepends=True)[-_SHOWN_LINES:]))
            raise LabError(
                f"{argv[0]} ended with {process.returncode}, not {expect}", hint=f"see {log}"
            )
        if expect:
            print(f"(exit status {expect})" if expect > 0 else f"(ended by signal {-expect})")
        return time.monotonic() - began_s

    def output(self, *argv: str) -> str:
        """What a command prints that is not shown."""
        return subprocess.check_output(
            self._command(argv), env=self._env, cwd=self.place, text=True
        )

    def quietly(self, *argv: str) -> None:
        subprocess.run(
            self._command(argv), env=self._env, cwd=self.place, check=False,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def mock(self, remote: str, results: str, package: Path) -> Sequence[str]:
        words = ("--remote", remote, "--resultdir", results, package.name)
        return ("mock", "-r", self.config.chroot(), *words)


def _build(show: Show, package: Path, server: FileServer) -> None:
    show.heading(
        "A package is built on a new node: an RPM tree, booted in namespaces of this machine."
    )
    show.run(*show.mock("local", "results", package))
    show.run("ls", "results")
    if not list((show.place / "results").glob("*.rpm")):
        raise LabError("no package came back")
    show.heading("Once more, on the warm node.")
    server.forget_accesses()
    show.run(*show.mock("local", "results", package))
    paths = [access.path for access in server.accesses()]
    packages = [path for path in paths if path.endswith(".rpm")]
    print(f"(requests to the repository: {len(paths)}, for packages: {len(packages)})")


def _refuse(show: Show, lab: Lab, package: Path, place: Path) -> None:
    victim = "usr/bin/rpm"
    show.heading(f"A second node, with one byte changed in its /{victim}.")
    change_a_byte(lab.tree, place / "tampered", victim)
    show.run(*show.mock("tampered", "refused", package), expect=REFUSED)
    show.heading("What the refused node was sent, by its own log: no source, no job.")
    show.run("cat", "refused/remote_order.log")
    if " blob " in (place / "refused/remote_order.log").read_text():
        raise LabError("a refused node was sent something")
    if list((place / "refused").glob("*.rpm")):
        raise LabError("a refused node gave results")


def _write_tampered_remote(config: ConfigDirectory, place: Path) -> None:
    text = config.remote_file.read_text()
    lines = [
        f'image = "{place}/tampered"' if line.startswith("image = ") else line
        for line in text.splitlines()
    ]
    config.remote_file.with_name("tampered.toml").write_text("\n".join(lines) + "\n")


def _summarize(show: Show, place: Path) -> None:
    print(f"""
# Done: built on an attested node, refused by a changed one. Everything is in {place}.
# The lab keeps running for {background.HOURS} hours. In another terminal, as root:
. {show.environment_file}
mock -r {show.config.chroot()} --remote local foo.src.rpm
# It ends with:
make demo-stop""")
