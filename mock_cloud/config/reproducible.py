# SPDX-License-Identifier: GPL-2.0-or-later
"""What makes rpm build the same bytes of the same sources, on any node and at any time."""

from __future__ import annotations

import socket
from typing import Final

from mock_cloud.config.defaults import ConfigOpts

_MACROS: Final = {
    "%source_date_epoch_from_changelog": "1",
    "%use_source_date_epoch_as_buildtime": "1",
    "%clamp_mtime_to_source_date_epoch": "1",
    "%build_mtime_policy": "clamp_to_source_date_epoch",
}
"""rpm's macros(7): SOURCE_DATE_EPOCH is the day of the changelog's last entry, and no time in a
package is later. The last macro is for rpm since 4.20, the one before it for older ones."""

_HOST: Final = ("%_buildhost", "reproducible")
_ENVIRONMENT: Final = {"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def make_reproducible(opts: ConfigOpts) -> None:
    """Add it to a configuration. What that says already about a macro stays as it is.

    A build host that mock or its configuration took from this machine is none of the user's words.
    """
    macros = opts["macros"]
    for name, value in _MACROS.items():
        macros.setdefault(name, value)
    name, host = _HOST
    if macros.get(name, socket.getfqdn()) == socket.getfqdn():
        macros[name] = host
    opts["environment"].update(_ENVIRONMENT)
