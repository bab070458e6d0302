# SPDX-License-Identifier: GPL-2.0-or-later
"""How a machine with systemd boots: GRUB on the ESP, kernel and initramfs in /boot."""

from __future__ import annotations

import shutil
from pathlib import Path

from mock_cloud.process import run

ESP_ID = "4C41-4221"
ROOT_UUID = "6c616200-0000-4000-8000-000000000004"
LOADER = "boot/efi/EFI/BOOT/BOOTX64.EFI"
"""Where firmware looks that was told nothing (UEFI, "removable media")."""

_TIMEOUT_S = 900.0
_FSTAB = f"""\
UUID={ROOT_UUID} / ext4 defaults 0 1
UUID={ESP_ID} /boot/efi vfat umask=0077,shortname=winnt,x-systemd.device-timeout=15min 0 2
"""
_EARLY = f"search --no-floppy --fs-uuid --set=root {ROOT_UUID}\nset prefix=($root)/boot/grub2\n"
# As of Fedora's cloud images.
_OPTIONS = "console=ttyS0,115200n8 net.ifnames=0 no_timer_check systemd.firstboot=off"
# grubenv is written at each boot, as Fedora's and EL's grub.cfg do.
_GRUB_CFG = """\
set timeout=0
serial --unit=0 --speed=115200
terminal_input serial
terminal_output serial
if [ -s $prefix/grubenv ]; then
    load_env
    set boot_indeterminate=1
    set boot_success=0
    save_env boot_success boot_indeterminate
fi
menuentry 'Lab Linux' {{
    linux /boot/vmlinuz-{version} root=UUID={root} ro {options}
    initrd /boot/initramfs-{version}.img
}}
"""
_MODULES = (
    *("ext2", "fat", "part_gpt", "search", "search_fs_uuid", "normal", "configfile", "linux"),
    *("loadenv", "test", "echo", "serial", "terminal", "sleep", "reboot", "halt"),
)
# The drivers of QEMU's machines, of EC2's and of other clouds'; no choice by this machine.
_DRACUT = (
    *("dracut", "--force", "--no-hostonly", "--no-hostonly-cmdline", "--gzip", "--reproducible"),
    *("--omit", "network network-legacy nfs iscsi lvm mdraid multipath crypt plymouth dmraid"),
    *("--add-drivers", "virtio_blk virtio_pci virtio_net nvme ext4 vfat"),
)


def make_bootable(root: Path) -> None:
    """Give the tree an initramfs, GRUB and its configuration, by its own programs."""
    (version,) = (place.name for place in (root / "usr/lib/modules").iterdir())
    in_tree(root, "depmod", "-a", version)
    kernel = root / f"boot/vmlinuz-{version}"
    if not kernel.exists():  # as kernel-install(8) does it, on Fedora and on Debian since 13
        shutil.copy(root / f"usr/lib/modules/{version}/vmlinuz", kernel)
    in_tree(root, *initramfs(version))
    (root / "etc/fstab").write_text(_FSTAB)
    grub = root / "boot/grub2"
    grub.mkdir(exist_ok=True)
    text = _GRUB_CFG.format(version=version, root=ROOT_UUID, options=_OPTIONS)
    (grub / "grub.cfg").write_text(text)
    (grub / "grubenv").write_text("# GRUB Environment Block\n".ljust(1024, "#"))
    early = root / "tmp/early.cfg"
    early.write_text(_EARLY)
    loader = root / LOADER
    loader.parent.mkdir(parents=True)
    where = ("-O", "x86_64-efi", "-p", "/boot/grub2", "-c", "/tmp/early.cfg")
    in_tree(root, "grub-mkimage", *where, "-o", f"/{LOADER}", *_MODULES)
    early.unlink()
    for place in (loader.parent.parent.parent, *loader.parent.parent.parent.rglob("*")):
        place.chmod(0o700)  # as the mount has them


def initramfs(version: str) -> tuple[str, ...]:
    """The command that makes /boot/initramfs-VERSION.img."""
    return (*_DRACUT, f"/boot/initramfs-{version}.img", version)


def in_tree(root: Path, *argv: str) -> None:
    """Run a program of the tree in the tree."""
    run(["chroot", str(root), *argv], timeout_s=_TIMEOUT_S)
