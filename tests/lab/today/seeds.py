# SPDX-License-Identifier: GPL-2.0-or-later
"""Which packages of Debian testing today's generation is made of."""

from __future__ import annotations

from tests.lab import seeds

SYSTEM = (
    "chrony",
    "cloud-guest-utils",
    "cloud-init",
    "dbus-broker",
    "dhcpcd-base",
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
    "systemd-resolved",
    "systemd-sysv",
    "udev",
)

# The system's tools that run the machines and make their disks; none of them is packed.
TOOLS = ("fdisk", "mtools", "ovmf", "qemu-system-x86")

# What specs of today ask for besides.
BUILDING = ("cmake", "dnf5", "python3-pip")

SEEDS = tuple(sorted({*seeds.BASE, *seeds.PACKAGING, *seeds.DEVELOPMENT, *SYSTEM, *BUILDING}))

# As Fedora's cloud images: dnf5, no dnf of the generation before.
NODE = tuple(
    sorted(
        {*seeds.NODE, *SYSTEM, "dnf5", "lab-system", "python3-rpm"} - {"dnf", "dnf-plugins-core"}
    )
)
