# SPDX-License-Identifier: GPL-2.0-or-later
"""Why a script of mock's integration tests does not pass, by script and by side ("" for each)."""

from __future__ import annotations

from collections.abc import Mapping

_ROOT_CACHE = (
    "It compares the file of mock's root cache on this machine: on a node it is the node's."
)
_SIGN = (
    "The launcher refuses the plugin `sign` by name: no key reaches a node. mock's plugin has it."
)

REASONS: Mapping[tuple[str, str], str] = {
    (
        "20-lvm-plugin.tst",
        "",
    ): "It needs a disk for LVM on this machine; a remote refuses lvm_root.",
    ("21-mockchain-image.tst", ""): "It needs podman on this machine.",
    (
        "22-rootdir.tst",
        "chroot",
    ): "`--rootdir` is refused: the engine decides where its chroots lie.",
    (
        "27-nspawn.tst",
        "local",
    ): "It asks whether systemd-nspawn is the default; here `isolation` is `simple`.",
    (
        "27-nspawn.tst",
        "mock",
    ): "The same; on a node a jail isolates, and mock is not its first process.",
    (
        "19-sign-plugin.tst",
        "local",
    ): "It counts two packages; here there are two more, of debuginfo, signed like them.",
    ("19-sign-plugin.tst", "chroot"): _SIGN,
    ("19-sign-plugin.tst", "mock"): _SIGN,
    ("25-postupdate-root-cache.tst", "chroot"): _ROOT_CACHE,
    ("25-postupdate-root-cache.tst", "mock"): _ROOT_CACHE,
}
