# SPDX-License-Identifier: GPL-2.0-or-later
"""mock's configuration made portable: what a mock on a node is told of it.

Values travel as they were written, with mock's templates in them, so that mock's bootstrap chroot
expands them its own way. What names things of this machine is judged expanded.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from mock_cloud.config.access import (
    has_secret,
    secret_words,
    without_login,
    without_logins,
    without_secret_variables,
)
from mock_cloud.config.defaults import ConfigOpts, default_config_opts
from mock_cloud.config.engine import PROXIES, build_user, shows_output
from mock_cloud.config.isolation import check_isolation
from mock_cloud.config.mock_plugins import portable_plugins, refuse
from mock_cloud.config.mock_repositories import PortableRepositories, portable_repositories
from mock_cloud.config.paths import locate_paths
from mock_cloud.config.stages import needs_setting
from mock_cloud.config.values import read_option, read_text
from mock_cloud.errors import ConfigError
from mock_cloud.invocation.carrying import IMAGE_MAX_BYTES, Carrier
from mock_cloud.invocation.engines import SETTINGS, mock_engine
from mock_cloud.invocation.hostfiles import HostFile
from mock_cloud.invocation.model import MOCK_VERSION, CommandLine
from mock_cloud.places import MOCK_CONFIG_DIR
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.job_request import JOB_DIRECTORY

_BOOTSTRAP: Final = "bootstrap_"
_CARRIED: Final = mock_engine(SETTINGS, "carried")
_ELSEWHERE: Final = ("dnf.conf", "offline_local_repository", "plugin_conf")
_IMAGE_FILES: Final = ("oci-archive", "docker-archive")
_IMAGE_DIRECTORIES: Final = ("oci", "dir")


@dataclass(frozen=True, slots=True)
class MockConfig:
    """A configuration for a mock elsewhere. `options` are without its repositories.

    `warnings` are for the user.
    """

    root: str
    chroot_name: str
    chrootuid: int
    options: Mapping[str, Any]
    repositories: PortableRepositories
    warnings: tuple[str, ...]

    def to_json(
        self,
        change: Callable[[str], str] = lambda text: text,
        environment: Mapping[str, str] | None = None,
    ) -> str:
        """As `agent.job.request.MockRun` describes it.

        `change` is applied to each dnf.conf; `environment` takes the place of the configured one.
        """
        given = {"environment": dict(environment)} if environment is not None else {}
        options = {**self.options, **self.repositories.options(change), **given}
        return json.dumps(options, sort_keys=True)


def mock_config(
    opts: ConfigOpts, line: CommandLine, carrier: Carrier, *, code_travels: bool
) -> MockConfig:
    """What differs from mock's defaults and makes sense on a node; the rest refused by name.

    `opts` are mock's own final options, or loaded and changed by `apply_command_line`. Files
    that go along are left with `carrier`. `code_travels`: the node runs this machine's mock.
    Raises UnsupportedByEngine, ConfigError.
    """
    raw = plain_values(opts)  # first: reading an expanded list or table changes it for good
    for name, why in mock_engine(SETTINGS, "refused").items():
        if read_option(opts, name) and needs_setting(line, name):
            refuse(f"config_opts[{name!r}]", why)
    check_isolation(opts, line)
    warnings: list[str] = []
    everything = code_travels and raw.get("version") != MOCK_VERSION
    differing = dict(_differing(raw, everything))
    if line.hermetic_build:  # in the repository, where mock on the node finds it again
        differing.pop("bootstrap_image", None)
    found = {name: value for name, value in differing.items() if is_sent(name)}
    if "unique-ext" in raw:
        # mock adds it to its root, and has done so if it handed its options over.
        found["root"] = str(raw["root"]).removesuffix(f"-{raw['unique-ext']}")
    for name in differing:
        _carry_option(name, opts, raw, carrier, found)
    repositories = portable_repositories(opts, line, carrier)
    _hide_secrets(found, repositories)
    found["plugin_conf"] = portable_plugins(
        raw["plugin_conf"], read_option(opts, "plugin_conf"), carrier, warnings,
        code_travels=code_travels, hermetic=bool(line.hermetic_build),
    )  # fmt: skip
    found["print_main_output"] = shows_output(opts, line)
    paths = locate_paths(opts)
    if paths.rootdir != paths.basedir / "root":
        warnings.append(f"the chroot is on the node, nothing is put into {paths.rootdir}")
    _settle_certificates(found, repositories.keys)
    return MockConfig(
        root=paths.root,
        chroot_name=read_text(opts, "chroot_name"),
        chrootuid=build_user(opts),
        options=found,
        repositories=repositories,
        warnings=tuple(warnings),
    )


def _hide_secrets(found: dict[str, Any], repositories: PortableRepositories) -> None:
    """Take out what repositories need on this machine alone. ConfigError for what cannot be.

    Options of a user's own, which a dnf.conf takes its passwords from, are needed no longer.
    """
    for name in PROXIES:
        if without_login(str(found.get(name) or "")) != str(found.get(name) or ""):
            del found[name]
    if "environment" in found:
        found["environment"] = without_logins(found["environment"])
    texts = repositories.texts.values()
    if "dnf_vars" in found:
        found["dnf_vars"] = without_secret_variables(
            found["dnf_vars"], repositories.accesses, texts
        )
    words = secret_words(repositories.accesses.found.values())
    for name, value in list(found.items()):
        if not has_secret(value, words):
            continue
        if _base(name) in SETTINGS:
            raise ConfigError(
                f"config_opts[{name!r}] has a repository's password in it, which goes to no node"
            )
        del found[name]


def read_logging(opts: ConfigOpts, configdir: Path) -> str:
    """The text of logging.ini, from where mock would read it; empty if there is none."""
    name = read_text(opts, "log_config_file")
    for path in (configdir / name, MOCK_CONFIG_DIR / name):
        try:
            return path.read_text(encoding="utf-8")
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read {path}: {error}") from error
    return ""


def plain_values(opts: ConfigOpts) -> dict[str, Any]:
    """A copy of the options as they were written. ConfigError for what JSON cannot say."""
    with _unexpanded(opts):
        values = {name: opts[name] for name in opts if not name.startswith("_")}
    found = {}
    for name, value in values.items():
        try:
            found[name] = json.loads(json.dumps(value, default=_sorted))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"config_opts[{name!r}] cannot be sent: {error}") from error
    return found


def _sorted(value: object) -> list[Any]:
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    raise TypeError(f"it holds a {type(value).__name__}")


@contextmanager
def _unexpanded(opts: ConfigOpts) -> Iterator[None]:
    before = opts.get("__jinja_expand", False)
    opts["__jinja_expand"] = False
    try:
        yield
    finally:
        opts["__jinja_expand"] = before


def _differing(raw: Mapping[str, Any], everything: bool) -> Iterator[tuple[str, Any]]:
    defaults = {} if everything else plain_values(default_config_opts())
    for name, value in raw.items():
        if name not in defaults or defaults[name] != value:
            yield name, value


def _base(name: str) -> str:
    """What mock calls bootstrap_X takes the place of X in its bootstrap chroot."""
    return name if name in _CARRIED else name.removeprefix(_BOOTSTRAP)


def is_sent(name: str) -> bool:
    """Whether the option `name` is simply passed on."""
    return SETTINGS.get(_base(name), ("", "sent"))[1] == "sent"


def _carry_option(
    name: str, opts: ConfigOpts, raw: Mapping[str, Any], carrier: Carrier, found: dict[str, Any]
) -> None:
    """Put the portable form of the option `name` into `found`, if it has one of its own."""
    base = _base(name)
    if base not in _CARRIED or name in _ELSEWHERE:
        return
    value = raw[name]
    what = f"config_opts[{name!r}]"
    if base in _ELSEWHERE:
        refuse(what, "it would have to be judged like " + base)
    elif base == "environment":
        found[name] = _without_our_proxies(value, raw)
    elif not value or base == "print_main_output":
        found[name] = value
    elif base == "macrofile":
        found[name] = carrier.file(Path(read_text(opts, name)), what)
    elif base in ("bootstrap_image", "buildroot_image"):
        found[name] = _image(read_text(opts, name), what, carrier)
    elif base == "ssl_extra_certs":
        found[name] = _extra_certificates(read_option(opts, name), carrier)
    elif base == "ssl_copied_ca_trust_dirs":
        found[name] = _trust_directories(read_option(opts, name), carrier)


def _without_our_proxies(environment: Any, raw: Mapping[str, Any]) -> Any:
    # mock copies the proxies of its own environment in, which mean nothing on a node.
    if not isinstance(environment, dict):
        raise ConfigError("config_opts['environment'] should be a mapping")
    return {
        name: value
        for name, value in environment.items()
        if name not in PROXIES or raw.get(name) or value != os.environ.get(name)
    }


def _image(name: str, what: str, carrier: Carrier) -> str:
    """The name of a container image; one in a file or a directory goes along."""
    transport, _, rest = name.partition(":")
    if transport in _IMAGE_FILES and rest.startswith("/"):
        path, tag = _split_tag(rest)
        return f"{transport}:{carrier.file(path, what, max_bytes=IMAGE_MAX_BYTES)}{tag}"
    if transport in _IMAGE_DIRECTORIES and rest.startswith("/"):
        path, tag = _split_tag(rest)
        return f"{transport}:{carrier.tree(path, what, max_bytes=IMAGE_MAX_BYTES)}{tag}"
    if name.startswith(("/", "./", "../", "~")) or (transport == name and Path(name).is_file()):
        path = Path(name).expanduser()
        return f"oci-archive:{carrier.file(path, what, max_bytes=IMAGE_MAX_BYTES)}"
    return name


def _split_tag(rest: str) -> tuple[Path, str]:
    # containers-transports(5): a path, then perhaps a colon and a tag.
    if Path(rest).exists():
        return Path(rest), ""
    path, colon, tag = rest.rpartition(":")
    return (Path(path), colon + tag) if colon else (Path(rest), "")


def _extra_certificates(pairs: Any, carrier: Carrier) -> list[str]:
    """[file here, path in the chroot, …]; as in mock, what is not there is passed over."""
    if not isinstance(pairs, (list, tuple)) or len(pairs) % 2:
        raise ConfigError("config_opts['ssl_extra_certs'] should be [file, path in the chroot, …]")
    found: list[str] = []
    for source, place in zip(pairs[::2], pairs[1::2], strict=True):
        path = Path(str(source))
        if path.exists():
            found += [carrier.file(path.resolve(), "config_opts['ssl_extra_certs']"), str(place)]
    return found


def _trust_directories(pairs: Any, carrier: Carrier) -> list[list[str]]:
    defaults = {pair[0] for pair in default_config_opts()["ssl_copied_ca_trust_dirs"]}
    what = "config_opts['ssl_copied_ca_trust_dirs']"
    found = []
    for pair in pairs:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise ConfigError(f"{what} should be pairs of directories")
        source, place = map(str, pair)
        if source in defaults:
            found.append([source, place])
        elif Path(source).is_dir():
            found.append([carrier.tree(Path(source), what), place])
    return found


def _settle_certificates(found: dict[str, Any], keys: tuple[HostFile, ...]) -> None:
    # dnf in mock's bootstrap chroot looks for keys in there. This is how mock puts files there
    # (copy_extra_certs in its package_manager.py): each to the path that it has outside.
    if keys:
        places = [f"{JOB_DIRECTORY}/inputs/gpgkey/{key.name}" for key in keys]
        pairs = [place for place in places for _ in range(2)]
        found["ssl_extra_certs"] = [*(found.get("ssl_extra_certs") or []), *pairs]
