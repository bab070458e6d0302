# SPDX-License-Identifier: GPL-2.0-or-later
"""The drop-in `mock`: remote where a remote is chosen, else the real mock, unchanged."""

from __future__ import annotations

import grp
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from mock_cloud import __version__
from mock_cloud.config import (
    MOCK_CONFIG_DIR,
    ConfigOpts,
    apply_command_line,
    choose_remote,
    debug_config,
    list_chroots,
    load_config_opts,
    load_remote,
    root_path,
)
from mock_cloud.errors import EXIT_SIGPIPE, ConfigError, MockCloudError
from mock_cloud.invocation import MOCK_VERSION, CommandLine, parse_command_line
from mock_cloud.session.console import Console
from mock_cloud.session.interrupts import Stopped, signals_raise

# Where distributions have mock's modules.
_LIBRARIES: Final = ("/usr/lib", "/usr/local/lib")
_PLUGIN: Final = "mockbuild/plugins/remote.py"
_PLUGIN_OFF: Final = "--disable-plugin=remote"

# With the abbreviations that argparse takes for them, next to mock's --remove and --no-….
_REMOTE: Final = ("--remote", "--remot")
_NO_REMOTE: Final = tuple("--no-remote"[:length] for length in range(len("--no-r"), 12))


def main(argv: Sequence[str] | None = None) -> int:
    """Run one mock command line; mock's exit code, or ours (see errors)."""
    words = list(sys.argv[1:] if argv is None else argv)
    real = find_real_mock(os.environ)
    console = Console()
    return end_well(console, lambda: _run(words, real, console))


def end_well(console: Console, act: Callable[[], int]) -> int:
    """The exit code of `act`; what stops it is said in mock's words, with mock's code."""
    try:
        with signals_raise():
            return act()
    except Stopped as stopped:
        console.done()
        console.error(
            "Exiting on user interrupt, <CTRL>-C" if stopped.number == 2 else str(stopped)
        )
        return stopped.exit_code
    except MockCloudError as error:
        console.done()
        console.failure(error)
        return error.exit_code
    except BrokenPipeError:
        # Whoever read our output is gone. Python would complain about it once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_SIGPIPE


def _run(words: list[str], real: Path | None, console: Console) -> int:
    line = parse_command_line(words, os.environ)
    if line.show:
        print(line.show)
        return 0
    console.set_verbosity(line.verbose)
    configdir = Path(line.configdir) if line.configdir else MOCK_CONFIG_DIR
    plugged = real is not None and has_plugin(real)
    if real is not None and line.no_remote:
        _exec(real, [_PLUGIN_OFF, *words] if plugged else words)
    if line.mode == "listchroots" and real is None:
        print(list_chroots(configdir), end="")
        return 0
    opts = load_config_opts(line.chroot, configdir, plugins=("remote",) if plugged else ())
    apply_command_line(opts, line)
    name = choose_remote(line, opts)
    if real is not None and (name is None or line.is_local):
        # mock reads a user's file after the chroot's, and might find a remote where we don't.
        off = plugged and name is None and opts["plugin_conf"]["remote_enable"]
        _exec(real, [_PLUGIN_OFF, *words] if off else words)
    if line.is_local:
        return _show(line, opts)
    if name is None:
        raise ConfigError(
            "no remote was chosen, and there is no mock on this machine",
            hint="say --remote NAME, set MOCK_REMOTE or config_opts['remote'], or install mock",
        )
    remote = load_remote(name, Path(line.configdir) if line.configdir else None)
    if real is not None and plugged and may_run_mock():
        _exec(real, [*plugin_words(name), *words])
    from mock_cloud.session.build import run  # not before it is needed: it imports paramiko

    python = ".".join(map(str, sys.version_info[:3]))
    console.info(
        f"mock.py version {MOCK_VERSION} (mock-cloud {__version__}) starting"
        f" (python version = {python}), args: {shlex.join([sys.argv[0], *words])}"
    )
    return run(line, opts, remote, console)


def _show(line: CommandLine, opts: ConfigOpts) -> int:
    """The modes that only look at configuration."""
    if line.printrootpath:
        print(root_path(opts))
    elif line.mode in ("debugconfig", "debugconfigexpand"):
        print(debug_config(opts, expanded=line.mode == "debugconfigexpand"), end="")
    else:
        raise ConfigError(
            f"--{line.mode} looks after local chroots, and there is no mock on this machine",
            hint="mock-cloud release gives nodes back with the chroots on them",
        )
    return 0


def find_real_mock(environ: Mapping[str, str]) -> Path | None:
    """The first `mock` on the PATH that is not this launcher; None if there is none."""
    mine = {_identity(Path(sys.argv[0])), _identity(Path(sys.executable).parent / "mock")}
    for directory in environ.get("PATH", os.defpath).split(os.pathsep):
        candidate = Path(directory or ".") / "mock"
        if not os.access(candidate, os.X_OK) or not candidate.is_file():
            continue
        if _identity(candidate) not in mine and not _is_launcher(candidate):
            return candidate
    return None


def may_run_mock() -> bool:
    """Whether mock would let this user in; it asks the others for root's password."""
    try:
        return grp.getgrnam("mock").gr_gid in (os.getegid(), *os.getgroups())
    except KeyError:
        return False


def has_plugin(real: Path) -> bool:
    """Whether this project's plugin is installed where `real` would find it."""
    if (real.resolve().parent / _PLUGIN).is_file():
        return True
    return any(any(Path(top).glob(f"python3*/site-packages/{_PLUGIN}")) for top in _LIBRARIES)


def plugin_words(name: str) -> list[str]:
    """What tells mock's plugin the remote's name, and to use this very installation."""
    session = [sys.executable, "-m", "mock_cloud.handover"]
    return [
        "--enable-plugin=remote",
        f"--plugin-option=remote:name={name!r}",
        f"--plugin-option=remote:session={session!r}",
    ]


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_dev, facts.st_ino


def _is_launcher(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return b"mock_cloud.launcher" in stream.read(4096)
    except OSError:
        return False


def _without_remote(words: Sequence[str]) -> list[str]:
    """`words` without our own options, which mock would take for packages."""
    kept: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--":
            return [*kept, word, *rest]
        name, equals, _ = word.partition("=")
        if name in _REMOTE:
            if not equals:
                next(rest, None)
        elif name not in _NO_REMOTE:
            kept.append(word)
    return kept


def _exec(real: Path, words: Sequence[str]) -> None:
    """Become the real mock. Does not return; OSError is a ConfigError."""
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execv(real, [str(real), *_without_remote(words)])  # noqa: S606
    except OSError as error:
        raise ConfigError(f"cannot run {real}: {error.strerror}") from error


if __name__ == "__main__":
    sys.exit(main())
