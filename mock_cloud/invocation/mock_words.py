# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line for a mock on a node: what its configuration does not say already."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NoReturn

from mock_cloud.errors import UnsupportedByEngine
from mock_cloud.file_owner import may_write
from mock_cloud.invocation.carrying import IMAGE_MAX_BYTES, Carrier
from mock_cloud.invocation.hostfiles import HostFile, find_package_file
from mock_cloud.invocation.model import (
    BUILDING_MODES,
    COMMAND_MODES,
    DESTINATIONS,
    PACKAGE_MANAGER_MODES,
    CommandLine,
)
from mock_cloud.wire.job_request import JOB_DIRECTORY
from mock_cloud.wire.terminal_text import printable

_COPYOUT: Final = f"{JOB_DIRECTORY}/copyout"
"""Where mock puts what --copyout copies."""

_FLAGS: Final = {"remove_snapshot": "--remove-snapshot"}
_PACKAGE_MANAGER_PATHS: Final = ("-c", "--config", "--installroot")
_WRITING_COMMANDS: Final = ("debug-dump", "debug-restore", "reposync")
_WRITING_OPTIONS: Final = ("--debugsolver", "--store")


def mock_words(line: CommandLine, files: list[HostFile], carrier: Carrier) -> list[str]:
    """`MockRun.argv` for `line`, whose own files are `files` (of `host_inputs`).

    Further files go along with `carrier`. UnsupportedByEngine for a path that cannot.
    """
    words = [*_mode(line), *_options(line), *_files(line, files, carrier)]
    arguments = list(_arguments(line, files, carrier))
    if line.mode in COMMAND_MODES and arguments:
        words.append("--")
    return [*words, *arguments]


def _mode(line: CommandLine) -> list[str]:
    if line.list_snapshots:
        return ["--list-snapshots"]
    if line.scrub:
        return [f"--scrub={what}" for what in line.scrub]
    if line.calculatedeps:
        return ["--calculate-build-dependencies"]
    return [_FLAGS.get(line.mode, f"--{line.mode}")]


def _options(line: CommandLine) -> Iterator[str]:
    yield from {0: ["--quiet"], 2: ["--verbose"]}.get(line.verbose, [])
    switches = {
        "--trace": line.trace,
        "--offline": not line.online,
        "--cache-alterations": line.cache_alterations,
        "--unpriv": line.unpriv,
        "--continue": line.cont,
        "--recurse": line.recurse,
        "--symlink-dereference": line.symlink_dereference,
    }
    yield from (name for name, wanted in switches.items() if wanted)
    for option, repository in line.enable_disable_repos:
        yield f"{option}={repository}"
    if line.cwd:
        yield f"--cwd={line.cwd}"
    if line.mode == "chain":
        yield f"--tmp_prefix={line.tmp_prefix or 'remote'}"  # mock would ask who is logged in


def _files(line: CommandLine, files: list[HostFile], carrier: Carrier) -> Iterator[str]:
    for word in line.additional_packages:
        file = find_package_file(word)
        yield f"--additional-package={word if file is None else node_path(file)}"
    if line.spec and line.mode in BUILDING_MODES:
        yield f"--spec={node_path(_only(files, 'spec'))}"
        if line.sources and line.mode != "chain":
            whole = any(file.role == "sources" for file in files)
            place = (
                f"{JOB_DIRECTORY}/inputs/sources" if whole else node_path(_only(files, "source"))
            )
            yield f"--sources={place}"
    if line.hermetic_build:
        lock, repository = line.hermetic_build
        here = Path(repository.removeprefix("file://"))
        yield "--hermetic-build"
        yield carrier.file(Path(lock), "--hermetic-build")
        yield carrier.tree(here, "--hermetic-build", max_bytes=IMAGE_MAX_BYTES)


def _arguments(line: CommandLine, files: list[HostFile], carrier: Carrier) -> Iterator[str]:
    if line.mode in ("rebuild", "chain", "installdeps"):
        yield from (node_path(file) for file in files if file.role in ("srpm", *_specs(line)))
    elif line.mode == "install":
        for word in line.args:
            package = find_package_file(word)
            yield word if package is None else node_path(package)
    elif line.mode == "copyin":
        yield from (node_path(file) for file in files if file.role == "copyin")
        yield line.args[-1]
    elif line.mode == "copyout":
        yield from line.args[:-1]
        target = _only(files, "copyout")
        # mock distinguishes a directory to copy into from a name to give.
        yield _COPYOUT if target.path.is_dir() else f"{_COPYOUT}/{target.name}"
    elif line.mode in PACKAGE_MANAGER_MODES:
        yield from _package_manager_words(line, carrier)
    else:
        yield from line.args


def _specs(line: CommandLine) -> tuple[str, ...]:
    return ("spec",) if line.mode == "installdeps" else ()


def _package_manager_words(line: CommandLine, carrier: Carrier) -> Iterator[str]:
    """For a package manager that runs on the node, where the user's directories are not."""
    command = next((word for word in line.args if not word.startswith("-")), "")
    if command in _WRITING_COMMANDS:
        _refuse_word(command, "it writes to directories of its own, which stay on the node")
    if may_write(Path.cwd()):
        carrier.output(Path.cwd(), f"--{line.mode}")
    words = iter(line.args)
    for word in words:
        option, equals, value = word.partition("=")
        if option in DESTINATIONS:
            value = value if equals else next(words, "")
            if not value:
                yield word  # dnf has its own words for that
                return
            yield f"{option}={carrier.output(Path(value), option)}"
        else:
            yield _package_manager_word(word, carrier)


def _package_manager_word(word: str, carrier: Carrier) -> str:
    option, _, value = word.removeprefix("--setopt=").partition("=")
    if option in _PACKAGE_MANAGER_PATHS or "file://" in word:
        _refuse_word(word, "the package manager runs on the node, which has no such file")
    if option in _WRITING_OPTIONS or (option.endswith(("dir", "path")) and "/" in value):
        _refuse_word(word, "it names a place on the node, where what is written stays")
    if option == "--repofrompath" and value.partition(",")[2].startswith("/"):
        _refuse_word(word, "the package manager runs on the node, which has no such directory")
    if find_package_file(word) is None:
        return word
    return carrier.file(Path(word), "the package", max_bytes=IMAGE_MAX_BYTES)


def _refuse_word(word: str, why: str) -> NoReturn:
    raise UnsupportedByEngine(
        f"{printable(word)}: {why}",
        hint="RPM files that are named go along; packages come into the directory where you are,"
        " or the one that --destdir or --downloaddir names",
    )


def _only(files: list[HostFile], role: str) -> HostFile:
    return next(file for file in files if file.role == role)


def node_path(file: HostFile) -> str:
    """Where an input lies on the node."""
    return f"{JOB_DIRECTORY}/inputs/{file.role}/{file.name}"
