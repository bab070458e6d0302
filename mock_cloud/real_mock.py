# SPDX-License-Identifier: GPL-2.0-or-later
"""The real mock: where it is, whether it has our plugin, and becoming it."""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import NoReturn

PLUGIN = "mockbuild/plugins/remote.py"

# Where distributions have Python modules, if mock is not started beside its own.
_LIBRARIES = ("/usr/lib", "/usr/local/lib")
_APPLICATIONS = "/etc/security/console.apps"
# Programs that a launcher before this one has started as mock, though they may lead to it again.
_TRIED = "MOCK_CLOUD_TRIED"
_HEAD_BYTES = 16384

# With the abbreviations that argparse takes for them, next to mock's --remove and --no-….
_WITH_VALUE = (
    "--remote", "--remot", "--then", "--the", "--th",
    *("--duplicate"[:length] for length in range(len("--du"), len("--duplicate") + 1)),
)  # fmt: skip
_DETACH = "--detach"
_PROGRESS = tuple("--progress"[:length] for length in range(len("--pro"), 11))
_JOBS = ("--jobs", "--job")
_NO_REMOTE = tuple("--no-remote"[:length] for length in range(len("--no-r"), 12))


def find_real_mock(environ: Mapping[str, str]) -> str | None:
    """The first `mock` on the PATH that is not this launcher; None if there is none."""
    tried = environ.get(_TRIED, "").split(os.pathsep)
    mine = {_identity(path) for path in (sys.argv[0], *tried)}
    for directory in environ.get("PATH", os.defpath).split(os.pathsep):
        candidate = os.path.join(directory or ".", "mock")
        if not os.access(candidate, os.X_OK) or not os.path.isfile(candidate):
            continue
        if _identity(candidate) not in mine and not is_launcher(candidate):
            return candidate
    return None


def is_launcher(path: str) -> bool:
    """Whether `path` is this program, of this or of another installation."""
    head = _head(path)
    # pip's own, setup.py's, and what somebody writes.
    return b"mock_cloud.launcher" in head or (b"mock-cloud" in head and b"console_scripts" in head)


def _is_mock(path: str) -> bool:
    """Whether `path` is mock for sure; a script of somebody's may start us again."""
    head = _head(path)
    return head.startswith(b"\x7fELF") or b"mockbuild" in head or _is_helper(path)


def _is_helper(path: str) -> bool:
    return os.path.basename(os.path.realpath(path)) == "consolehelper"


def has_plugin(real: str) -> bool:
    """Whether this project's plugin is installed where `real` would find it."""
    return any(os.path.isfile(os.path.join(place, PLUGIN)) for place in module_places(real))


def module_places(real: str) -> list[str]:
    """The directories in which `real` would look for its package mockbuild."""
    program = os.path.realpath(real)
    if _is_helper(real):
        program = _helped_program() or program
    places = [os.path.dirname(program)]
    python = _python_name(program)
    for library in _LIBRARIES:
        if python:
            places += [f"{library}/{python}/{kind}-packages" for kind in ("site", "dist")]
        else:
            found = sorted(name for name in _names(library) if name.startswith("python3"))
            places += [
                f"{library}/{name}/{kind}-packages" for name in found for kind in ("site", "dist")
            ]
    return [*places, "/usr/lib/python3/dist-packages"]


def _helped_program() -> str | None:
    """What consolehelper starts for `mock`."""
    for line in _head(f"{_APPLICATIONS}/mock").splitlines():
        name, _, value = line.partition(b"=")
        if name.strip() == b"PROGRAM":
            return os.fsdecode(value.strip())
    return None


def _python_name(program: str) -> str | None:
    """`python3.N` if that is what runs `program`, a script; else None."""
    first = _head(program).partition(b"\n")[0]
    words = first.removeprefix(b"#!").split() if first.startswith(b"#!") else []
    name = os.path.basename(os.path.realpath(os.fsdecode(words[0]))) if words else ""
    return name if name.startswith("python3.") else None


def without_our_words(words: Sequence[str]) -> list[str]:
    """`words` without our own options, which mock would take for packages."""
    kept: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--":
            return [*kept, word, *rest]
        name, equals, _ = word.partition("=")
        if name in (*_WITH_VALUE, *_PROGRESS, *_JOBS):
            if not equals:
                next(rest, None)
        elif name not in (*_NO_REMOTE, _DETACH):
            kept.append(word)
    return kept


def become_mock(real: str, words: Sequence[str]) -> NoReturn:
    """Execute `real` as this process was started. Raises OSError if that cannot be."""
    environ = _first_environment()
    if _is_mock(real):
        environ.pop(_TRIED, None)
    else:
        tried = environ.get(_TRIED)
        environ[_TRIED] = os.pathsep.join([*([tried] if tried else []), real])
    sys.stdout.flush()
    sys.stderr.flush()
    # Python ignores these two, and a new program would inherit that.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    os.execve(real, [real, *words], environ)  # noqa: S606


def _first_environment() -> dict[str, str]:
    """The environment that this process was given: Python adds LC_CTYPE to it (PEP 538)."""
    environ = dict(os.environ)
    try:
        with open("/proc/self/environ", "rb") as stream:
            given = stream.read()
    except OSError:
        return environ
    if b"\0LC_CTYPE=" not in b"\0" + given:
        environ.pop("LC_CTYPE", None)
    return environ


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _identity(path: str) -> tuple[int, int] | None:
    try:
        facts = os.stat(path)
    except OSError:
        return None
    return facts.st_dev, facts.st_ino


def _head(path: str) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read(_HEAD_BYTES)
    except OSError:
        return b""
