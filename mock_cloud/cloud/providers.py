# SPDX-License-Identifier: GPL-2.0-or-later
"""Which providers there are, by the name that a remote's file uses."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from mock_cloud.cloud.owner import local_owner
from mock_cloud.cloud.provider import Choices, Provider
from mock_cloud.errors import ConfigError
from mock_cloud.settings import Remote

# A command imports the provider that it uses, and no other.
if TYPE_CHECKING:
    from mock_cloud.cloud.apis.adapter import CloudApi

_LOCAL: Final = "local"
_HOSTS: Final = "ssh"
_APIS: Final = ("ec2", "openstack", "rackspace", "libcloud")

NAMES: Final = (_LOCAL, _HOSTS)
"""Providers that can be swept without a remote's file."""

ON_THIS_MACHINE: Final = (_LOCAL,)
"""Providers whose nodes are on this machine: to look at them costs no time and needs no network."""


def find_provider(name: str, state_dir: Path, remote: Remote | None) -> Provider:
    """The provider called `name`. ConfigError if there is none.

    Without `remote`, `local` and `ssh` can list and destroy: a cloud wants to know who asks.
    """
    if name == _LOCAL:
        from mock_cloud.cloud.local.provider import LocalProvider

        return LocalProvider(state_dir, None if remote is None else remote.local)
    if name == _HOSTS:
        from mock_cloud.cloud.hosts.provider import HostsProvider

        return HostsProvider(state_dir, () if remote is None else remote.hosts)
    if name in _APIS and remote is not None and remote.cloud is not None:
        from mock_cloud.cloud.apis.provider import CloudProvider

        owner = local_owner(state_dir)
        return CloudProvider(_make_api(name, remote, owner), remote.cloud, remote, owner=owner)
    raise ConfigError(
        f"there is no provider {name!r}",
        hint=f"the providers are: {', '.join((*NAMES, *_APIS))}",
    )


def find_choices(remote: Remote) -> Choices | None:
    """What the cloud of a remote that may have no nodes yet has; None if its API is not asked."""
    if remote.provider == "ec2":
        from mock_cloud.cloud.apis.ec2 import make_ec2_api

        return make_ec2_api(remote).choices()
    if remote.provider == "openstack":
        from mock_cloud.cloud.apis.openstack import make_openstack_api

        return make_openstack_api(remote).choices()
    return None


def _make_api(name: str, remote: Remote, owner: str) -> CloudApi:
    """The adapter of a provider that is a cloud; it imports its library when it calls."""
    if name == "ec2":
        from mock_cloud.cloud.apis.ec2 import make_ec2_api

        return make_ec2_api(remote)
    if name == "openstack":
        from mock_cloud.cloud.apis.openstack import make_openstack_api

        return make_openstack_api(remote)
    if name == "rackspace":
        from mock_cloud.cloud.apis.rackspace import make_rackspace_api

        return make_rackspace_api(remote)
    from mock_cloud.cloud.apis.generic import make_libcloud_api

    return make_libcloud_api(remote, owner)
