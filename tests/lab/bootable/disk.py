# SPDX-License-Identifier: GPL-2.0-or-later
"""The disk of a machine with systemd: GPT, an ESP with GRUB, a root file system.

Made without loop devices and mounts: each file system is written as a file, into its place.
"""

from __future__ import annotations

from pathlib import Path

from tests.lab.bootable import system
from tests.lab.bootable.boot import ESP_ID, ROOT_UUID
from tests.lab.layout import Lab

DISK_GIB = 8
_SECTORS_PER_MIB = 2048
_ESP_MIB = 64
_TABLE = """\
label: gpt
label-id: 6c616200-0000-4000-8000-000000000001
start={esp_start}, size={esp_size}, type=uefi, uuid=6c616200-0000-4000-8000-000000000002
start={root_start}, size={root_size}, type=linux, uuid={root}
"""
# In the system: $1 is the tree, $2 the disk, $3 sfdisk's script. mkfs.ext4 -d wants a file system
# that is alone in its file, or an offset (mke2fs(8)).
_SCRIPT = """\
truncate -s {size_mib}M "$2"
printf %s "$3" | sfdisk --quiet --no-reread --no-tell-kernel "$2"
rm -f "$2.esp"
mkfs.vfat -C -i {esp_id} -n EFI "$2.esp" {esp_kib} >/dev/null
mcopy -s -i "$2.esp" "$1"/boot/efi/* ::/
dd if="$2.esp" of="$2" bs=1M seek=1 conv=notrunc,sparse status=none
rm "$2.esp"
mkfs.ext4 -q -F -m 0 -U {uuid} -E offset={offset},lazy_itable_init=1,nodiscard \\
    -d "$1" "$2" {root_mib}M
"""


def make_disk(lab: Lab, tree: Path, disk: Path) -> None:
    """A sparse disk image that boots `tree`, whose /boot/efi becomes the ESP. Needs root."""
    root_mib = DISK_GIB * 1024 - _ESP_MIB - 2  # the last MiB is the second partition table's
    table = _TABLE.format(
        esp_start=_SECTORS_PER_MIB,
        esp_size=_ESP_MIB * _SECTORS_PER_MIB,
        root_start=(1 + _ESP_MIB) * _SECTORS_PER_MIB,
        root_size=root_mib * _SECTORS_PER_MIB,
        root="6c616200-0000-4000-8000-000000000003",
    )
    script = _SCRIPT.format(
        size_mib=DISK_GIB * 1024,
        esp_id=ESP_ID.replace("-", ""),
        esp_kib=_ESP_MIB * 1024,
        uuid=ROOT_UUID,
        offset=(1 + _ESP_MIB) << 20,
        root_mib=root_mib,
    )
    disk.unlink(missing_ok=True)
    system.run(lab, ["sh", "-ec", script, "sh", str(tree), str(disk), table])
