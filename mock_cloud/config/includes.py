# SPDX-License-Identifier: GPL-2.0-or-later
"""mock's `include('…')`: textual, before Python sees the configuration file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from mock_cloud.errors import ConfigError

_INCLUDE: Final = re.compile(r"^\s*include\((?P<argument>.*)\)", re.MULTILINE)
_DEPTH_MAX: Final = 50


def read_with_includes(
    file: Path, search: Path, names: dict[str, Any], seen: set[str], depth: int = 0
) -> str:
    """The text of `file` with each `include(…)` line replaced by the included text.

    Relative paths are looked up in `search`. `names` is what an argument, a Python
    expression, may use. `seen` collects the paths read; a path already in it is replaced by
    nothing, as mock does. Raises ConfigError.
    """
    path = search / file
    if not path.exists():
        raise ConfigError(f"included configuration file not found: {path}")
    if str(path) in seen:
        return ""
    if depth > _DEPTH_MAX:
        raise ConfigError(f"{path}: includes are nested more than {_DEPTH_MAX} deep")
    seen.add(str(path))
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    for found in _INCLUDE.findall(text):
        included = read_with_includes(
            Path(_argument(found, path, names)), search, names, seen, depth + 1
        )
        # mock uses the text as the template of re.sub: in an included file a backslash is
        # written twice. A configuration must mean the same here.
        try:
            text = _INCLUDE.sub(included, text, count=1)
        except re.error as error:
            raise ConfigError(f"{path}: include({found}): {error}") from error
    return text


def _argument(expression: str, path: Path, names: dict[str, Any]) -> str:
    try:
        value = eval(expression, names)  # noqa: S307  the whole file is Python, see chroots
    except Exception as error:
        raise ConfigError(f"{path}: include({expression}): {error}") from error
    if not isinstance(value, str):
        raise ConfigError(f"{path}: include({expression}) does not name a file")
    return value
