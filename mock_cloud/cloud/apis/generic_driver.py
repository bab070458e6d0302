# SPDX-License-Identifier: GPL-2.0-or-later
"""Any compute driver of libcloud: made from the remote's file, and looked at before it is used.

Drivers agree on `create_node(name, size, image, …)` and little else: what one can take is read
from its signature. One that takes no user-data is refused: its nodes would have host keys that
nobody knows beforehand.
"""

from __future__ import annotations

import base64
import difflib
import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from mock_cloud.cloud.apis.adapter import Launch
from mock_cloud.cloud.apis.calls import make_ours
from mock_cloud.cloud.apis.texts import one_line
from mock_cloud.errors import ConfigError
from mock_cloud.settings import LibcloudSettings, Scalar
from mock_cloud.wire.dataclass import dataclass

_FROM_ENVIRONMENT: Final = "env:"
_USER_DATA: Final = ("ex_userdata", "ex_user_data", "ex_cloud_config", "user_data", "cloud_init")
_USER_DATA_WITHIN: Final = {
    "gce": ("ex_metadata", "user-data"),
    "cloudscale": ("ex_create_attr", "user_data"),
}
"""Drivers that take it as one entry of a mapping."""
_IN_BASE64: Final = ("outscale",)
"""Drivers that leave the encoding that their API wants to the caller."""
_TOKENS: Final = ("ex_clienttoken", "ex_client_token")
_TAGS: Final = ("ex_metadata",)
"""Arguments that take tags as a mapping. Whether or not, the name has what a sweep needs."""
_GIVEN: Final = ("self", "name", "size", "image", "location")


@dataclass(frozen=True, slots=True)
class Driver:
    """A driver that can be used. `library` is libcloud's, `fixed` the remote's ex_ arguments."""

    library: Any
    name: str
    fixed: Mapping[str, object]
    accepts: frozenset[str]

    def arguments(self, launch: Launch) -> dict[str, object]:
        """The keyword arguments of `create_node` for this launch, but for name, size and image."""
        made: dict[str, object] = dict(self.fixed)
        text = launch.user_data.reveal()
        if self.name in _IN_BASE64:
            text = base64.b64encode(text)
        for argument in _TAGS:
            if argument in self.accepts:
                made[argument] = {**_mapping(made.get(argument)), **launch.tags}
        for argument in _TOKENS:
            if argument in self.accepts:
                made[argument] = launch.token
        if self.name in _USER_DATA_WITHIN:
            argument, key = _USER_DATA_WITHIN[self.name]
            made[argument] = {**_mapping(made.get(argument)), key: text.decode()}
        else:
            made[_user_data_argument(self.accepts)] = text.decode()
        return made


def find_driver_class(name: str, source: Path) -> Callable[..., Any]:
    """The driver that libcloud calls `name`. ConfigError with the names that are near."""
    from libcloud.compute.providers import DRIVERS, get_driver

    names = sorted(str(getattr(key, "value", key)) for key in DRIVERS)
    if name not in names:
        near = difflib.get_close_matches(name.lower(), names, n=3)
        raise ConfigError(
            f"{source}: libcloud has no compute driver {name!r}",
            hint=f"near names: {', '.join(near)}" if near else f"there are: {', '.join(names)}",
        )
    try:
        found: Callable[..., Any] = get_driver(name)
    except ImportError as error:
        raise ConfigError(
            f"{source}: libcloud's driver {name!r} needs the Python module {error.name!r}",
            hint="install it beside mock-cloud",
        ) from error
    return found


def read_arguments(
    arguments: Mapping[str, Scalar], environ: Mapping[str, str], source: Path
) -> dict[str, Scalar]:
    """The constructor's arguments, those of the environment filled in. ConfigError."""
    read: dict[str, Scalar] = {}
    for name, value in arguments.items():
        if isinstance(value, str) and value.startswith(_FROM_ENVIRONMENT):
            variable = value.removeprefix(_FROM_ENVIRONMENT)
            if not environ.get(variable):
                raise ConfigError(
                    f"{source}: [libcloud.arguments] {name}: the environment has no {variable}",
                    hint=f"export {variable}=…",
                )
            read[name] = environ[variable]
        else:
            read[name] = value
    return read


def make_driver(settings: LibcloudSettings, environ: Mapping[str, str], source: Path) -> Driver:
    """The driver, made and checked. Some ask their API while they are made.

    ConfigError for what the remote's file must say otherwise; what libcloud raises for the API.
    """
    kind = find_driver_class(settings.driver, source)
    arguments = read_arguments(settings.arguments, environ, source)
    try:
        library = kind(**arguments)
    except json.JSONDecodeError:
        raise  # an answer, not an argument
    except (TypeError, ValueError) as error:
        text = _hide(one_line(str(error)), arguments.values())
        raise ConfigError(
            f"{source}: driver {settings.driver!r} does not take [libcloud.arguments]: {text}",
            hint="libcloud's documentation of the driver has its arguments",
        ) from None  # its text may have the arguments in it
    if getattr(library, "connection", None) is not None:
        make_ours(library)
    return check_driver(library, settings, source)


def check_driver(library: Any, settings: LibcloudSettings, source: Path) -> Driver:
    """The driver, if its methods can be called with what is there. ConfigError if not."""
    name = settings.driver
    parameters = inspect.signature(library.create_node).parameters
    takes_any = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values())
    named = frozenset(
        key for key, one in parameters.items() if one.kind is not inspect.Parameter.VAR_KEYWORD
    )
    if name not in _USER_DATA_WITHIN and not _user_data_argument(named):
        raise ConfigError(
            f"{source}: libcloud's driver {name!r} gives no user-data to a node, so that no host "
            "key could be known before the first connection",
            hint="use a driver that can, or list the machines in a remote of provider 'ssh'",
        )
    ours = {*_TOKENS, *_USER_DATA}
    for argument in settings.create:
        if argument in ours:
            raise ConfigError(f"{source}: [libcloud.create] {argument} is mock-cloud's to say")
        if argument not in named and not takes_any:
            near = difflib.get_close_matches(argument, named, n=3)
            known = sorted(key for key in named - ours if key.startswith("ex_"))
            raise ConfigError(
                f"{source}: [libcloud.create]: driver {name!r} knows no {argument!r}",
                hint=f"did you mean {' or '.join(near)}?"
                if near
                else f"it knows: {', '.join(known)}",
            )
    _refuse_missing(parameters, settings, source)
    return Driver(library, name, dict(settings.create), named)


def _refuse_missing(
    parameters: Mapping[str, inspect.Parameter], settings: LibcloudSettings, source: Path
) -> None:
    there = {*_GIVEN, *settings.create, *_USER_DATA, *_TOKENS, *_TAGS}
    for key, one in parameters.items():
        is_needed = one.default is inspect.Parameter.empty and one.kind in (
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            inspect.Parameter.KEYWORD_ONLY,
        )
        if is_needed and key == "location" and not settings.locations:
            raise ConfigError(
                f"{source}: driver {settings.driver!r} needs a location",
                hint="give [libcloud] locations a list of ids, best first",
            )
        if is_needed and key not in there:
            raise ConfigError(
                f"{source}: driver {settings.driver!r} needs {key!r} to create a node",
                hint="put it into [libcloud.create]"
                if key.startswith("ex_")
                else "mock-cloud cannot use this driver",
            )


def _user_data_argument(names: Iterable[str]) -> str:
    found = set(names)
    return next((argument for argument in _USER_DATA if argument in found), "")


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _hide(text: str, values: Iterable[Scalar]) -> str:
    for value in values:
        if isinstance(value, str) and len(value) >= 6:
            text = text.replace(value, "…")
    return text
