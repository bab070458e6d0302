# SPDX-License-Identifier: GPL-2.0-or-later
"""Which packages of Debian the generations with systemd are made of."""

from __future__ import annotations

from tests.lab import seeds

_SYSTEM = (
    "chrony",
    "cloud-guest-utils",
    "cloud-init",
    "dbus-broker",
    "dosfstools",
    "dracut",
    "e2fsprogs",
    "grub-common",
    "grub-efi-amd64-bin",
    "kmod",
    "libpam-systemd",
    "linux-image-cloud-amd64",
    "logrotate",
    "network-manager",
    "polkitd",
    "sudo",
    "systemd",
    "systemd-container",
    "systemd-sysv",
    "udev",
)

# The system's tools that run the machines and make their disks; none of them is packed.
TOOLS = ("fdisk", "mtools", "ovmf", "qemu-system-x86")

# What specs of today ask for besides.
_BUILDING = ("cmake", "python3-pip")

_COMMON = {*seeds.BASE, *seeds.PACKAGING, *seeds.DEVELOPMENT, *_SYSTEM, *_BUILDING}
_NODE = {*seeds.NODE, *_SYSTEM, "lab-system", "python3-rpm"}

# As Fedora's cloud images: dnf5, no dnf of the generation before.
_ONLY_TODAY = {"dhcpcd-base", "dnf5", "systemd-resolved"}
TODAY = tuple(sorted(_COMMON | _ONLY_TODAY))
TODAY_NODE = tuple(sorted((_NODE | _ONLY_TODAY) - {"dnf", "dnf-plugins-core"}))

# As EL 9's: NetworkManager writes resolv.conf, and cloud-init asks for its address by dhclient.
_ONLY_EL9 = {"isc-dhcp-client"}
EL9 = tuple(sorted(_COMMON | _ONLY_EL9))
EL9_NODE = tuple(sorted(_NODE | _ONLY_EL9))
