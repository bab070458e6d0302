# SPDX-License-Identifier: GPL-2.0-or-later
"""Small files that differ from node to node and are told by what they say, not by their digest.

The agent sends their bytes with the evidence; the controller parses them (`attest.content`).
"""

from __future__ import annotations

import re
from typing import Final

TEXT_MAX: Final = 16 << 10
"""Bytes of one; a larger one is not sent, and so can't pass."""
TEXTS_MAX: Final = 64

MACHINE_ID: Final = "/etc/machine-id"
RUN_MACHINE_ID: Final = "/run/machine-id"
"""Mounted over the other one until a first boot has written that."""
GRUBENV: Final = "/boot/grub2/grubenv"
RESOLVER_FILES: Final = (
    "/etc/resolv.conf",
    "/run/NetworkManager/no-stub-resolv.conf",
    "/run/NetworkManager/resolv.conf",
    "/run/systemd/resolve/resolv.conf",
    "/run/systemd/resolve/stub-resolv.conf",
)
WRITTEN_FILES: Final = (
    "/etc/.updated",
    "/etc/NetworkManager/conf.d/30-cloud-init-ip6-addr-gen-mode.conf",
    "/etc/NetworkManager/conf.d/99-cloud-init.conf",
    "/etc/iscsi/initiatorname.iscsi",
    "/etc/nvme/hostid",
    "/etc/nvme/hostnqn",
    "/etc/ssh/sshd_config.d/50-cloud-init.conf",
    "/etc/tuned/active_profile",
    "/etc/tuned/profile_mode",
    "/run/cloud-init/cloud.cfg",
    "/var/.updated",
)
"""What systemd, cloud-init and others write on a first boot, in few words."""
TEXT_FILES: Final = (MACHINE_ID, RUN_MACHINE_ID, GRUBENV, *RESOLVER_FILES, *WRITTEN_FILES)

INTERFACE: Final = "[A-Za-z0-9][A-Za-z0-9_.-]{0,14}"
RUN_CONNECTIONS: Final = "/run/NetworkManager/system-connections"
"""Where NetworkManager notes connections of its own making, at each boot under another uuid."""
# Names are cloud-init's own: cloudinit/net/{network_manager,sysconfig,networkd}.py.
NETWORK_PLACES: Final = {
    "/etc/NetworkManager/system-connections": f"cloud-init-{INTERFACE}\\.nmconnection",
    "/etc/sysconfig/network-scripts": f"ifcfg-{INTERFACE}",
    "/etc/systemd/network": f"10-cloud-init-{INTERFACE}\\.network",
    "/etc/udev/rules.d": "70-persistent-net\\.rules",
    RUN_CONNECTIONS: "(?:lo|Wired connection [0-9]{1,3})\\.nmconnection",
}
"""Directories of an interface's configuration, and what cloud-init and NetworkManager call it."""


def is_network_file(directory: str, name: str) -> bool:
    """Whether cloud-init or NetworkManager would have written a file of this name there."""
    pattern = NETWORK_PLACES.get(directory)
    return pattern is not None and re.fullmatch(pattern, name) is not None
