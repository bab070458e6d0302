# SPDX-License-Identifier: GPL-2.0-or-later
"""Which providers there are, by the name that a remote's file uses."""

from __future__ import annotations

from pathlib import Path

from mock_cloud.cloud.local import provider as local
from mock_cloud.cloud.provider import Provider
from mock_cloud.errors import ConfigError
from mock_cloud.settings import Remote

NAMES = (local.NAME,)


def find_provider(name: str, state_dir: Path, remote: Remote | None) -> Provider:
    """The provider called `name`. ConfigError if there is none.

    Without `remote` it can list and destroy, but not create.
    """
    if name == local.NAME:
        return local.LocalProvider(state_dir, None if remote is None else remote.local)
    raise ConfigError(
        f"there is no provider {name!r}", hint=f"the providers are: {', '.join(NAMES)}"
    )
