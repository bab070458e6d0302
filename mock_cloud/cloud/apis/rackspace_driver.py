# SPDX-License-Identifier: GPL-2.0-or-later
"""libcloud's driver for Rackspace, with a connection that renews its token. Imports libcloud."""

from __future__ import annotations

from libcloud.compute.drivers.rackspace import RackspaceConnection, RackspaceNodeDriver

from mock_cloud.cloud.apis.openstack_connection import Renewing


class _RenewingConnection(Renewing, RackspaceConnection):
    pass


class RenewingDriver(RackspaceNodeDriver):
    connectionCls = _RenewingConnection  # noqa: N815 (libcloud's name)
