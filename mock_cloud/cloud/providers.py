# SPDX-License-Identifier: GPL-2.0-or-later
"""Which providers there are, by the name that a remote's file uses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from mock_cloud.cloud.apis import generic
from mock_cloud.cloud.apis.adapter import CloudApi
from mock_cloud.cloud.apis.ec2 import make_ec2_api
from mock_cloud.cloud.apis.openstack import make_openstack_api
from mock_cloud.cloud.apis.provider import CloudProvider
from mock_cloud.cloud.apis.rackspace import make_rackspace_api
from mock_cloud.cloud.hosts import provider as hosts
from mock_cloud.cloud.local import provider as local
from mock_cloud.cloud.owner import local_owner
from mock_cloud.cloud.provider import Provider
from mock_cloud.errors import ConfigError
from mock_cloud.settings import Remote

APIS: Final[Mapping[str, Callable[[Remote], CloudApi]]] = {
    "ec2": make_ec2_api,
    "openstack": make_openstack_api,
    "rackspace": make_rackspace_api,
}
"""What makes the adapter of a provider that is a cloud; each imports its library when it calls."""

NAMES: Final = (local.NAME, hosts.NAME)
"""Providers that can be swept without a remote's file."""

HERE: Final = (local.NAME,)
"""Providers whose nodes are on this machine: to look at them costs no time and needs no network."""


def find_provider(name: str, state_dir: Path, remote: Remote | None) -> Provider:
    """The provider called `name`. ConfigError if there is none.

    Without `remote`, `local` and `ssh` can list and destroy: a cloud wants to know who asks.
    """
    if name == local.NAME:
        return local.LocalProvider(state_dir, None if remote is None else remote.local)
    if name == hosts.NAME:
        return hosts.HostsProvider(state_dir, () if remote is None else remote.hosts)
    if name in APIS and remote is not None and remote.cloud is not None:
        api, owner = APIS[name](remote), local_owner(state_dir)
        return CloudProvider(api, remote.cloud, remote, owner=owner)
    if name == generic.NAME and remote is not None and remote.cloud is not None:
        owner = local_owner(state_dir)
        api = generic.make_libcloud_api(remote, owner)
        return CloudProvider(api, remote.cloud, remote, owner=owner)
    raise ConfigError(
        f"there is no provider {name!r}",
        hint=f"the providers are: {', '.join((*NAMES, *APIS, generic.NAME))}",
    )
