# SPDX-License-Identifier: GPL-2.0-or-later
"""The files of this machine that a command line names, checked before anything is bought."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from mock_cloud.errors import CommandLineError, InputError, MockCloudError
from mock_cloud.file_owner import may_write
from mock_cloud.invocation.model import BUILDING_MODES, CommandLine
from mock_cloud.invocation.names import expand_home, find_name_problem
from mock_cloud.invocation.srpm import ChainError, SrpmError, read_package_facts
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.terminal_text import printable

SOURCES_MAX: Final = 20_000
"""More files than this in --sources are a mistake (a home directory, say)."""

_HINT_FILE: Final = "it must be a file of this machine that you may read"
_URL_SCHEMES: Final = ("http://", "https://", "ftp://", "file://")


@dataclass(frozen=True, slots=True)
class HostFile:
    """A file of this machine that an invocation needs or fills.

    `name` is the bare file name it has on the node. `role` is one of srpm, spec, package, gpgkey
    (regular files to send), source (a file) or sources (a directory), copyin (file or directory to
    send), macros (read here, not sent) and copyout (destination, written to).
    """

    name: str
    role: str
    path: Path


def host_inputs(line: CommandLine) -> list[HostFile]:
    """Every host path that `line` names, in the order they are used.

    Raises SrpmError (exit 1 or 40), ChainError (4), CommandLineError (5) or InputError (50), as
    mock would, for what is missing, unreadable, of the wrong kind, badly named, or there twice.
    """
    files = list(_inputs(line))
    _refuse_twins(files)
    return files


def _inputs(line: CommandLine) -> Iterator[HostFile]:
    if line.macrofile:
        path = Path(expand_home(line.macrofile))
        _check_regular(path, "the macro file", CommandLineError)
        yield HostFile(path.name, "macros", path.absolute())
    if line.spec and line.mode in BUILDING_MODES:
        yield _file(line.spec, "spec", "the spec file", CommandLineError)
        if line.sources and line.mode != "chain":
            yield from _sources(Path(line.sources))
    yield from _packages(line.additional_packages)
    yield from _arguments(line.mode, line.args)


def _arguments(mode: str, args: tuple[str, ...]) -> Iterator[HostFile]:
    if mode == "rebuild":
        yield from map(find_srpm, args)
    elif mode == "chain":
        yield from map(_link_of_chain, args)
    elif mode == "installdeps":
        yield from map(_dependency_source, args)
    elif mode == "install":
        yield from _packages(args)
    elif mode == "copyin":
        yield from map(_copyin, args[:-1])
    elif mode == "copyout":
        yield _copyout(args)


def find_srpm(word: str) -> HostFile:
    """The source package `word` names, or SrpmError in one line saying why it can't be used."""
    if word.startswith(_URL_SCHEMES):
        raise SrpmError(
            f"{printable(word)}: SRPMs are taken from this machine only",
            hint="download it first, then name the file",
        )
    found = _file(word, "srpm", "the SRPM", SrpmError)
    if not read_package_facts(found.path).source:
        raise SrpmError(f"{printable(word)} is not a source package", hint="name an SRPM")
    return found


def _link_of_chain(word: str) -> HostFile:
    # mock names a package's directory of results after its file, and passes others by.
    if not word.endswith(".rpm"):
        raise ChainError(f"{printable(word)} does not end in .rpm", hint="name an SRPM")
    try:
        return find_srpm(word)
    except SrpmError as error:
        raise ChainError(error.message, hint=error.hint) from error


def _dependency_source(word: str) -> HostFile:
    # mock: a .spec file's BuildRequires, or an SRPM's, or those a plain RPM lists.
    if word.endswith(".spec"):
        return _file(word, "spec", "the spec file", InputError)
    if word.startswith(_URL_SCHEMES):
        return find_srpm(word)
    found = _file(word, "srpm", "the package", SrpmError)
    read_package_facts(found.path)
    return found


def _packages(words: Iterable[str]) -> Iterator[HostFile]:
    return (file for word in words if (file := find_package_file(word)) is not None)


def find_package_file(word: str) -> HostFile | None:
    """The RPM file of this machine that `word` names, None for a name that dnf resolves.

    Raises InputError for a path to no usable RPM.
    """
    if not word.lower().endswith(".rpm") or word.startswith(_URL_SCHEMES):
        return None
    if "/" not in word and not Path(word).exists():
        return None
    found = _file(word, "package", "the package", InputError)
    read_package_facts(found.path)
    return found


def _sources(path: Path) -> Iterator[HostFile]:
    """One file, or the directory with all that is in it: mock copies it whole, whatever it is."""
    real = path.resolve()
    if not real.is_dir():
        _check_regular(real, "the source", CommandLineError)
        yield HostFile(path.name, "source", real)
        return
    try:
        count = sum(1 for _ in os.scandir(real))
    except OSError as error:
        raise CommandLineError(
            f"cannot read the sources in {printable(str(path))}: {error.strerror}"
        ) from error
    if count > SOURCES_MAX:
        raise CommandLineError(
            f"--sources {printable(str(path))} has {count} entries",
            hint="name the directory of the package's sources",
        )
    yield HostFile("sources", "sources", real)


def _copyin(word: str) -> HostFile:
    path = Path(word)
    name = Path(os.path.normpath(word)).name or path.resolve().name
    if not os.path.lexists(path):
        raise InputError(f"No such file or directory: {printable(word)}")
    if not os.access(path, os.R_OK):
        raise InputError(f"cannot read {printable(word)}")
    if name in ("", ".", ".."):
        name = path.resolve().name
    return HostFile(name, "copyin", path.absolute())


def _copyout(args: tuple[str, ...]) -> HostFile:
    path = Path(args[-1]).absolute()
    holder = path if path.is_dir() else path.parent
    if not holder.is_dir():
        raise InputError(f"no such directory: {printable(str(holder))}")
    if not may_write(holder):
        raise InputError(f"cannot write to {printable(str(holder))}")
    if len(args) > 2 and not path.is_dir():
        raise InputError(f"multiple source files and {printable(args[-1])} is not a directory!")
    return HostFile(path.name, "copyout", path)


def _file(word: str, role: str, what: str, kind: type[MockCloudError]) -> HostFile:
    path = Path(word)
    _check_name(path.name, word, kind)
    _check_regular(path, what, kind)
    return HostFile(path.name, role, path.absolute())


def _check_name(name: str, word: str, kind: type[MockCloudError]) -> None:
    problem = find_name_problem(name)
    if problem is not None:
        raise kind(
            f"the file name of {printable(word)!r} is refused: {problem}",
            hint="rename it, or name a copy",
        )


def _check_regular(path: Path, what: str, kind: type[MockCloudError]) -> None:
    shown = printable(str(path))
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise kind(f"{what} {shown}: {error.strerror}", hint=_HINT_FILE) from error
    except ValueError as error:
        raise kind(f"{what} {shown}: {error}", hint=_HINT_FILE) from error
    if not stat.S_ISREG(mode):
        raise kind(f"{what} {shown} is not a regular file", hint=_HINT_FILE)
    if not os.access(path, os.R_OK):
        raise kind(f"{what} {shown} is not readable", hint=_HINT_FILE)


def _refuse_twins(files: Iterable[HostFile]) -> None:
    # On the node inputs of a role lie in one directory under their bare names.
    seen: dict[tuple[str, str], Path] = {}
    for file in files:
        first = seen.setdefault((file.role, file.name), file.path)
        if first != file.path:
            raise InputError(
                f"two files are called {printable(file.name)}: "
                f"{printable(str(first))} and {printable(str(file.path))}",
                hint="build them one after the other",
            )


def node_args(line: CommandLine) -> list[str]:
    """`line.args` as the node is told them: the form `JobRequest.args` describes.

    Files of this machine become the names that `host_inputs` gives them; copyin keeps its
    destination only, copyout its sources only, clean what to scrub.
    """
    if line.mode in ("rebuild", "chain", "installdeps"):
        return [Path(word).name for word in line.args]
    if line.mode == "install":
        files = ((word, find_package_file(word)) for word in line.args)
        return [word if file is None else file.name for word, file in files]
    if line.mode == "copyin":
        return [line.args[-1]]
    if line.mode == "copyout":
        return list(line.args[:-1])
    if line.scrub:
        return list(line.scrub)
    return list(line.args)


def shown_names(line: CommandLine) -> dict[str, str]:
    """What the user called the files that messages name: name on the node → word."""
    if line.mode == "copyin":
        return {_copyin(word).name: word for word in line.args[:-1]}
    words = line.args if line.mode in ("rebuild", "chain") else ()
    spec = (line.spec,) if line.spec else ()
    return {Path(word).name: word for word in (*words, *spec)}
