# SPDX-License-Identifier: GPL-2.0-or-later
"""Where OpenStack's own tools keep clouds: clouds.yaml, secure.yaml, the OS_* variables.

Files and order as in openstacksdk (openstack/config/loader.py), but for the current directory: a
package's checkout is not a place to be told where passwords go. OS_CLIENT_CONFIG_FILE can name it.
JSON is read as YAML, which it is.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from mock_cloud import places
from mock_cloud.errors import ConfigError
from mock_cloud.wire.dataclass import dataclass

_FILE_MAX_BYTES: Final = 1 << 20

_SUFFIXES: Final = (".yaml", ".yml", ".json")
_SITE: Final = Path("/etc/openstack")
_XDG_SITE: Final = "/etc/xdg"  # XDG_CONFIG_DIRS where it is not set


@dataclass(frozen=True, slots=True)
class CloudEntry:
    """One cloud's keys, those of its table ``auth`` among them; `source` for messages.

    `name` is the entry's in `file`; both are empty where the variables are the entry. `secure` is
    the file of its secrets, if there is one, `vendors` that of the profiles it may refer to.
    """

    source: str
    values: Mapping[str, object]
    name: str = ""
    file: Path | None = None
    secure: Path | None = None
    vendors: Path | None = None

    def __repr__(self) -> str:
        return f"CloudEntry({self.source})"  # the values have passwords among them


def find_entry(cloud: str, environ: Mapping[str, str], config_home: Path) -> CloudEntry:
    """The cloud to use: `cloud`, else OS_CLOUD, else the OS_* variables, else the only one.

    ConfigError if there is none, or none of that name.
    """
    wanted = cloud or environ.get("OS_CLOUD", "")
    if not wanted and "OS_AUTH_URL" in environ:
        return _from_environment(environ)
    directories = _directories(environ, config_home)
    path = _find_file("clouds", environ.get("OS_CLIENT_CONFIG_FILE", ""), directories)
    if path is None:
        raise ConfigError(
            "there are no credentials for OpenStack: "
            + (
                f"no clouds.yaml for the cloud {wanted!r}"
                if wanted
                else "no OS_CLOUD, no OS_AUTH_URL"
            )
            + f" in {' or '.join(map(str, directories))}",
            hint="fetch clouds.yaml from the cloud's own pages into ~/.config/openstack",
        )
    clouds = _clouds(path)
    if not wanted and len(clouds) == 1:
        wanted = next(iter(clouds))
    if wanted not in clouds:
        near = difflib.get_close_matches(wanted, clouds, n=3) or sorted(clouds)
        raise ConfigError(
            f"{path} has no cloud {wanted!r}" if wanted else f"which of the clouds of {path}?",
            hint=f"there are: {', '.join(near)}"
            + ("" if wanted else "; name one as [openstack] cloud or OS_CLOUD"),
        )
    values = _flat(clouds[wanted])
    secure = _find_file("secure", environ.get("OS_CLIENT_SECURE_FILE", ""), directories)
    if secure is not None:
        values |= _flat(_clouds(secure).get(wanted, {}))
    vendors = _find_file("clouds-public", "", directories)
    return CloudEntry(f"cloud {wanted!r} of {path}", values, wanted, path, secure, vendors)


def _directories(environ: Mapping[str, str], config_home: Path) -> list[Path]:
    """Where the files are looked for, in this order: the user's own, then the site's."""
    sites = (environ.get("XDG_CONFIG_DIRS") or _XDG_SITE).split(":")
    own = config_home / "openstack"
    plain = places.home(environ) / ".config/openstack"
    found = [own, plain] if "XDG_CONFIG_HOME" in environ else [own]
    found += [Path(site) / "openstack" for site in sites if site.startswith("/")]
    return list(dict.fromkeys([*found, _SITE]))


def _from_environment(environ: Mapping[str, str]) -> CloudEntry:
    values: dict[str, object] = {
        name[3:].lower(): value
        for name, value in environ.items()
        if name.startswith("OS_") and value
    }
    return CloudEntry("the OS_* environment variables", values)


def _find_file(stem: str, named: str, directories: Sequence[Path]) -> Path | None:
    if named:
        return Path(named)
    for place in directories:
        for suffix in _SUFFIXES:
            path = place / f"{stem}{suffix}"
            if path.exists():
                return path
    return None


# What PyYAML's constructors let through: of dates, integers, tags without what they ask for.
_YAML_ERRORS = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)


def _clouds(path: Path) -> dict[str, Mapping[str, object]]:
    """The table ``clouds`` of a file, each entry a mapping. ConfigError shows no content."""
    import yaml  # only who has such a file pays for it

    try:
        if path.stat().st_size > _FILE_MAX_BYTES:
            raise ConfigError(f"{path} is larger than {_FILE_MAX_BYTES} bytes")
        raw: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8") from error
    except (*_YAML_ERRORS, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark is not None else 1
        raise ConfigError(f"{path}:{line}: not YAML") from None  # its text quotes the line
    clouds = raw.get("clouds") if isinstance(raw, dict) else None
    if not isinstance(clouds, dict):
        raise ConfigError(f"{path} has no table 'clouds'")
    for name, entry in clouds.items():
        if not isinstance(name, str):
            raise ConfigError(f"{path}: the name of a cloud is not a text")
        if not isinstance(entry, dict):
            raise ConfigError(f"{path}: the cloud {name!r} is not a table")
        if not isinstance(entry.get("auth", {}), dict):
            raise ConfigError(f"{path}: 'auth' of the cloud {name!r} is not a table")
    return dict(clouds)


def _flat(entry: Mapping[str, object]) -> dict[str, object]:
    auth = entry.get("auth", {})
    flat = {str(key): value for key, value in entry.items() if key != "auth"}
    if isinstance(auth, dict):
        flat |= {str(key): value for key, value in auth.items()}
    return {key.replace("-", "_"): value for key, value in flat.items()}
