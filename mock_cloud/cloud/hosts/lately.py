# SPDX-License-Identifier: GPL-2.0-or-later
"""Which hosts failed lately, so that others are tried first. A hint: losing it costs a moment."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Final

from mock_cloud.wire.decode import load_json
from mock_cloud.wire.files import replace_file

_KEEP_S: Final = 600.0


class Lately:
    """Names of hosts that failed in the last ten minutes, in a file of the state directory."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "hosts-failed.json"

    def failed(self) -> dict[str, float]:
        """When each failed, in unix seconds."""
        try:
            raw = load_json(self._path.read_bytes())
        except (OSError, ValueError):
            return {}
        now = time.time()
        return {
            str(name): when
            for name, when in (raw.items() if isinstance(raw, dict) else ())
            if isinstance(when, float) and now - _KEEP_S < when <= now
        }

    def note(self, name: str) -> None:
        """This host failed now."""
        with contextlib.suppress(OSError):
            replace_file(self._path, json.dumps({**self.failed(), name: time.time()}).encode())
