# SPDX-License-Identifier: GPL-2.0-or-later
"""SSH to nodes: one connection, one agent, pinned host keys. Only here: paramiko."""

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

_METADATA = "importlib.metadata"


def _find_version(name: str) -> str:
    """What `importlib.metadata.version` says: the name of its .dist-info has it, too."""
    for place in sys.path:
        for path in Path(place).glob(f"{name}-*.dist-info"):
            return path.stem.removeprefix(f"{name}-")
    version: Any = _load_metadata("version")
    return str(version(name))


def _load_metadata(name: str) -> object:
    sys.modules.pop(_METADATA, None)
    return getattr(importlib.import_module(_METADATA), name)


if "paramiko" not in sys.modules and "invoke" not in sys.modules:
    # 65 ms of each command are modules that paramiko brings along and does without here. Its
    # reader of ssh_config imports invoke for `Match exec`, and invoke imports asyncio and unittest:
    # nothing here reads ssh_config, and paramiko does without invoke where it is not installed
    # (paramiko/config.py). For its own version it imports what reads a .dist-info, and mails.
    sys.modules["invoke"] = None  # type: ignore[assignment]
    _stand_in = ModuleType(_METADATA)
    vars(_stand_in).update(version=_find_version, __getattr__=_load_metadata)
    sys.modules.setdefault(_METADATA, _stand_in)
    try:
        import paramiko as _paramiko  # noqa: F401
    finally:
        del sys.modules["invoke"]
        if sys.modules.get(_METADATA) is _stand_in:
            del sys.modules[_METADATA]
