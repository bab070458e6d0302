# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a command line goes that may mean a remote: to our session, or to the real mock."""

from __future__ import annotations

import argparse
import grp
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from pprint import pformat
from typing import Final, NoReturn

from mock_cloud import __version__
from mock_cloud.config.chroots import find_config_file
from mock_cloud.config.defaults import ConfigOpts, default_config_opts
from mock_cloud.config.overrides import apply_command_line
from mock_cloud.config.paths import COPY_MARK, locate_paths
from mock_cloud.config.remotes import load_remote
from mock_cloud.config.values import read_option, read_text
from mock_cloud.console import Console
from mock_cloud.errors import CommandLineError, ConfigError, MockCloudError
from mock_cloud.exit_status import end_well
from mock_cloud.invocation.model import (
    ANY_HOST,
    DETACHED,
    MOCK_VERSION,
    PART,
    PART_OF,
    PUBLISHED,
    CommandLine,
)
from mock_cloud.invocation.parser import parse_command_line
from mock_cloud.launcher.caller import home_of_caller, load_of_caller
from mock_cloud.launcher.extras import (
    count_duplicates,
    find_shadowing,
    find_then,
    is_random,
    part_of,
)
from mock_cloud.places import MOCK_CONFIG_DIR
from mock_cloud.progress.timeline import ProgressMode
from mock_cloud.real_mock import become_mock, has_plugin, without_our_words
from mock_cloud.settings import EngineChoice, Remote
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.terminal_text import printable

_PLUGIN_OFF: Final = "--disable-plugin=remote"

_FINISHING: Final = ("sign", "compress_logs")
"""As CONTROLLER_PLUGINS in mock-plugins/remote.py."""

NOT_HERE: Final = (
    "the chroot is on the remote's node, not in the directory that is printed:"
    " --copyout brings files from it, --chroot looks into it"
)
"""What is said to a user, or to a script's log, beside the path of --print-root-path."""

COPY_HERE: Final = (
    "the chroot is on the remote's node: in the directory that is printed is a copy of its"
    " builddir/build, as the last command left it"
)
"""The same, where there is one."""


def run_launcher(words: list[str], real: str | None) -> int:
    """Run one mock command line; mock's exit code, or ours. `real` is the real mock, if any."""
    console = Console()
    return end_well(console, lambda: _run(words, real, console))


def _run(words: list[str], path: str | None, console: Console) -> int:
    real = None if path is None else _Mock(path, has_plugin(path), words)
    line = _parse(words, real)
    if line.show:
        print(line.show)
        return 0
    console.set_verbosity(line.verbose)
    console.set_progress(ProgressMode(line.progress or "auto"))
    if line.mode == "listchroots" and real is None:
        print(list_chroots(_configdir(line)), end="")
        return 0
    if real is not None:
        opts, name = _with_mock(line, real)
    else:
        opts, name = _configured(line)
    if line.is_local:
        if line.printrootpath and name is not None:
            _warn_of_path(opts, console)
        return _show(line, opts)
    return _build_on(_load(line, name), line, opts, real, console)


def _build_on(
    remote: Remote, line: CommandLine, opts: ConfigOpts, real: _Mock | None, console: Console
) -> int:
    """On `remote`, or first there, or on others too; in the background, by mock's plugin or us."""
    words = list(line.argv)
    if os.environ.keys() & {PUBLISHED, PART_OF}:
        return _take_part(remote, line, opts, real, console)
    if then := find_then(line, remote):
        from mock_cloud.repeated.command import build_scratch

        if code := build_scratch(words, remote, then, locate_paths(opts).resultdir, console):
            return code
        remote = then
    if count := count_duplicates(line, remote):
        from mock_cloud.repeated.command import build_duplicates

        return build_duplicates(line, remote, count, locate_paths(opts).resultdir, console)
    if is_random(line, remote):
        from mock_cloud.repeated.command import build_audited

        return build_audited(line, remote, locate_paths(opts).resultdir, console)
    if then:
        os.environ[PART] = ANY_HOST  # for mock's plugin, which would ask once more
    if line.detach and DETACHED not in os.environ:
        from mock_cloud.steps.job.job_list import begin_detached

        return begin_detached(words, console)
    if real is not None and real.plugged and may_run_mock() and not line.is_several:
        real.become(*plugin_words(remote.name, line.progress))
    return _build(line, opts, remote, real, console)


def _take_part(
    remote: Remote, line: CommandLine, opts: ConfigOpts, real: _Mock | None, console: Console
) -> int:
    """For another command: build, or have mock's plugins work on what that command published.

    They work on nothing that is not published: what `sign` signed would have the user's word.
    """
    published = os.environ.get(PUBLISHED)
    if real is not None and real.plugged and may_run_mock():
        is_wanted = switch_off_finishing(opts)
        if published and is_wanted:
            real.become(*plugin_words(remote.name), f"--plugin-option=remote:finish={published}")
    return 0 if published else _build(line, opts, remote, real, console)


def _load(line: CommandLine, name: str | None) -> Remote:
    if name is None:
        raise ConfigError(
            "no remote was chosen, and there is no mock on this machine",
            hint="say --remote NAME, set MOCK_REMOTE or config_opts['remote'], or install mock",
        )
    return part_of(load_remote(name, line.configdir_path))


def _build(
    line: CommandLine,
    opts: ConfigOpts,
    remote: Remote,
    real: _Mock | None,
    console: Console,
) -> int:
    """The build itself, in our session."""
    from mock_cloud.session import run as build  # not before: what it imports is large
    from mock_cloud.toolkit.mock_kit import find_mock

    python = ".".join(map(str, sys.version_info[:3]))
    console.info(
        f"mock.py version {MOCK_VERSION} (mock-cloud {__version__}) starting"
        f" (python version = {python}), args: {shlex.join([sys.argv[0], *line.argv])}"
    )
    program = find_mock(None if real is None else Path(real.path))
    if real is not None and program is None and remote.build.engine is EngineChoice.AUTO:
        console.warning(
            f"{real.path} is a wrapper, whose mock cannot be sent: the engine is chroot"
            " (say so in the remote's [build] table, or put mock itself on your PATH)"
        )
    shadowing = find_shadowing(line, remote)
    if not line.is_several:
        return build(line, opts, remote, console, program=program, shadowing=shadowing)
    from mock_cloud.several.at_once import build_several
    from mock_cloud.several.chain_at_once import build_chain

    def build_one(own: CommandLine, its_console: Console) -> int:
        own_opts, _ = _configured(own, *_plugins(real))
        return build(own, own_opts, remote, its_console, program=program, shadowing=shadowing)

    build_all = build_chain if line.mode == "chain" else build_several
    return build_all(line, opts, remote.lease.max_nodes, build_one, console)


def _plugins(real: _Mock | None) -> list[str]:
    """Those of mock's plugins whose settings a configuration may have, beside mock's own."""
    return ["remote"] if real is not None and real.plugged else []


@dataclass(frozen=True, slots=True)
class _Mock:
    """The real mock, whether it has our plugin, and the words it gets."""

    path: str
    plugged: bool
    words: list[str]

    def become(self, *first: str) -> NoReturn:
        """Become it, with the words `first` before the user's. OSError is a ConfigError."""
        try:
            become_mock(self.path, [*first, *without_our_words(self.words)])
        except OSError as error:
            raise ConfigError(f"cannot run {self.path}: {error.strerror}") from error

    def become_local(self, *, plugin_on: bool) -> NoReturn:
        """Become it to build here, though a configuration may have switched the plugin on."""
        self.become(*([_PLUGIN_OFF] if self.plugged and plugin_on else []))


def _parse(words: list[str], real: _Mock | None) -> CommandLine:
    """The command line. What only the real mock understands is its own."""
    asked = asks_for_remote(words, os.environ)
    try:
        line = parse_command_line(words, os.environ)
    except CommandLineError as error:
        if real is None or asked:
            raise
        _leave_to_mock(real, error)
    if line.show and real is not None and not asked:
        real.become()
    return line


def asks_for_remote(words: Sequence[str], environ: Mapping[str, str]) -> bool:
    """Whether the command line or the environment names a remote."""
    if environ.get("MOCK_REMOTE"):
        return True
    ours = words[: words.index("--")] if "--" in words else words
    return any(word.startswith("--remot") for word in ours)


class _Refused(Exception):
    """mock's own parser refuses these words too."""


class _LooseParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _Refused(message)


def _leave_to_mock(real: _Mock, error: CommandLineError) -> NoReturn:
    """Become mock, or raise `error` if a configuration chooses a remote."""
    words = real.words
    if without_our_words(words) != words:  # --no-remote, for --remote was looked for before
        real.become_local(plugin_on=True)
    parser = _LooseParser(add_help=False)
    parser.add_argument("-r", "--root", default="default")
    parser.add_argument("--configdir", default="")
    parser.add_argument("--config-opts", action="append", default=[])
    try:
        known, _ = parser.parse_known_args(words[: words.index("--")] if "--" in words else words)
    except _Refused:
        real.become()
    told = ["--print-root-path", f"--root={known.root}", f"--configdir={known.configdir}"]
    told += [f"--config-opts={word}" for word in known.config_opts]
    _with_mock(parse_command_line(told, {}), real, on_remote=error)
    real.become()


def _with_mock(
    line: CommandLine, real: _Mock, on_remote: CommandLineError | None = None
) -> tuple[ConfigOpts, str | None]:
    """The configuration and the remote; becomes `real` where no remote is chosen.

    Raises `on_remote`, if given, where a remote is chosen.
    """
    asked = line.named_remote is not None
    if line.no_remote and not line.remote_only:
        real.become_local(plugin_on=True)
    if not asked and real.plugged and _is_sudo():
        real.become(*plugin_words())
    file = find_config_file(line.config_name, _configdir(line), home_of_caller())
    if not asked and not file.exists():
        real.become()  # it says so in its own words, and builds nothing
    try:
        opts, name = _configured(line, *_plugins(real))
    except MockCloudError:
        if asked or not real.plugged or on_remote:
            raise
        real.become(*plugin_words())  # what we can't read, mock may: then the plugin decides
    if name is not None and on_remote is not None:
        raise on_remote
    if line.printrootpath and name is not None:
        _warn_of_path(opts, Console())
    if name is None or line.is_local:
        if word := line.remote_only:
            raise CommandLineError(f"{word} is for remote builds", hint="say --remote NAME")
        # mock reads a user's file after the chroot's, and might find a remote where we don't.
        on = real.plugged and name is None and opts["plugin_conf"]["remote_enable"]
        real.become_local(plugin_on=bool(on))
    return opts, name


def _warn_of_path(opts: ConfigOpts, console: Console) -> None:
    has_copy = (locate_paths(opts).rootdir / COPY_MARK).exists()
    console.warning(COPY_HERE if has_copy else NOT_HERE)


def _is_sudo() -> bool:
    """Whether configuration, which is Python, would run with rights that are not its user's.

    mock drops them before it reads any, and then the plugin finds the remote in it.
    """
    return os.geteuid() == 0 and os.environ.get("SUDO_UID", "0") != "0"


def _configdir(line: CommandLine) -> Path:
    return line.configdir_path or MOCK_CONFIG_DIR


def _configured(line: CommandLine, *plugins: str) -> tuple[ConfigOpts, str | None]:
    """The configuration with the command line's changes, and the remote that is chosen."""
    found = load_of_caller(line.config_name, _configdir(line), plugins)
    apply_command_line(found, line)
    return found, choose_remote(line, found)


def choose_remote(line: CommandLine, opts: ConfigOpts) -> str | None:
    """The name of the remote to use, or None to run on this machine. ConfigError.

    `--no-remote` wins; then `--remote`, `MOCK_REMOTE`, `config_opts['remote']`, for which
    `load_config_opts` has already decided between chroot, user and site configuration. None
    or False there means this machine.
    """
    if line.no_remote or line.named_remote is not None:
        return line.named_remote
    value = read_option(opts, "remote")
    if value is None or value is False or value == "":
        return None
    if not isinstance(value, str):
        raise ConfigError(f"config_opts['remote'] is {value!r}, not a remote's name")
    return value


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


def may_run_mock() -> bool:
    """Whether mock would let this user in; it asks the others for root's password."""
    try:
        return grp.getgrnam("mock").gr_gid in (os.getegid(), *os.getgroups())
    except KeyError:
        return False


def switch_off_finishing(opts: ConfigOpts) -> bool:
    """Without what mock's own plugins do with finished packages; whether any was to."""
    plugins = read_option(opts, "plugin_conf")
    names = plugins.get("remote_opts", {}).get("controller_plugins", _FINISHING)
    wanted = bool(read_option(opts, "createrepo_on_rpms"))
    for name in names:
        wanted |= bool(plugins.get(f"{name}_enable"))
        plugins[f"{name}_enable"] = False
    opts["createrepo_on_rpms"] = False
    return wanted


def plugin_words(name: str | None = None, progress: str | None = None) -> list[str]:
    """What tells mock's plugin the remote's name, if known, and to use this installation.

    mock itself knows nothing of `progress`.
    """
    session = [sys.executable, "-m", "mock_cloud.handover"]
    session += [f"--progress={progress}"] if progress else []
    named = [f"--plugin-option=remote:name={name!r}"] if name is not None else []
    return ["--enable-plugin=remote", *named, f"--plugin-option=remote:session={session!r}"]


def debug_config(opts: ConfigOpts, *, expanded: bool) -> str:
    """The options that differ from mock's defaults, as lines of a configuration file."""
    defaults = default_config_opts()
    jinja = opts["__jinja_expand"]
    # Raw values first: reading an expanded list or table changes it for good.
    opts["__jinja_expand"] = defaults["__jinja_expand"] = expanded
    lines = []
    for name in sorted(opts):
        own = read_option(opts, name)
        value = jinja if name == "__jinja_expand" else own
        if name not in defaults or own != defaults[name]:
            lines.append(f"config_opts['{name}'] = {pformat(value)}\n")
    opts["__jinja_expand"] = jinja
    return "".join(lines)


def list_chroots(config_path: Path, home: Path | None = None) -> str:
    """The chroot configurations of `config_path` and of the user, with their descriptions."""
    home = home if home is not None else home_of_caller()
    special = {"site-defaults.cfg", "chroot-aliases.cfg"}
    lines = [f"{'config name':<34} description\n", "Global configs:\n"]
    for path in sorted(config_path.glob("*.cfg")):
        if path.name not in special:
            lines.append(_describe(path, config_path, home))
    own = sorted((home / ".config/mock").glob("*.cfg"))
    if own:
        lines += ["Custom configs:\n", *(_describe(path, config_path, home) for path in own)]
    return "".join(lines)


def _describe(path: Path, config_path: Path, home: Path) -> str:
    try:
        opts = load_of_caller(str(path), config_path, home=home)
        description = read_text(opts, "description")
    except (ConfigError, CommandLineError):
        description = "error during parsing the config file"
    return f"{path.stem:<34} {printable(description)}\n"


def root_path(opts: ConfigOpts) -> str:
    """What --print-root-path prints: the chroot's path with a slash at its end."""
    return f"{locate_paths(opts).rootdir}/"
