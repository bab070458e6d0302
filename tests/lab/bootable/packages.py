# SPDX-License-Identifier: GPL-2.0-or-later
"""The own packages of the generations with systemd: presets, macros for specs."""

from __future__ import annotations

from pathlib import Path

from tests.lab.rpmspec import Package, file, link

_MACROS = Path(__file__).parent / "macros"

# As in Fedora's and EL's cloud images, cloud-init's drop-ins included.
SSHD_CONFIG = """\
Include /etc/ssh/sshd_config.d/*.conf
PermitRootLogin prohibit-password
AuthorizedKeysFile .ssh/authorized_keys
KbdInteractiveAuthentication no
UsePAM yes
X11Forwarding no
PrintMotd no
Subsystem sftp internal-sftp
"""

# The services of Fedora's cloud images as far as Debian has them. What is not named stays off.
_PRESETS = """\
enable NetworkManager.service
enable NetworkManager-dispatcher.service
enable NetworkManager-wait-online.service
enable chrony.service
enable cloud-config.service
enable cloud-final.service
enable cloud-init-local.service
enable cloud-init-main.service
enable cloud-init-network.service
enable cloud-init.service
enable dbus-broker.service
enable dbus.socket
enable fstrim.timer
enable getty@.service
enable logrotate.timer
enable remote-fs.target
enable ssh.service
enable systemd-resolved.service
enable systemd-timesyncd.service
enable polkit.service
enable e2scrub_all.timer
"""

_CLOUD_CFG = """\
# Fedora's: cloud-init writes for NetworkManager, and configures no apt.
cloud_config_modules: [set_passwords, timezone, runcmd]
system_info:
  network: {renderers: [network-manager]}
  default_user: {name: cloud-user, lock_passwd: true, shell: /bin/bash}
"""


def system(*, has_resolved: bool) -> Package:
    """What a distribution decides for its images: which services run, how the machine boots."""
    entries = [
        file("/usr/lib/systemd/system-preset/80-lab.preset", _PRESETS),
        file("/usr/lib/systemd/system-preset/85-lab-others.preset", "disable *\n"),
        file("/etc/cloud/cloud.cfg.d/50_lab.cfg", _CLOUD_CFG),
    ]
    if has_resolved:
        entries.append(link("/etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf"))
    return Package(
        "lab-system", "1", "1.lab1", "noarch", "What an image of the lab decides",
        tuple(entries),
        requires=("filesystem", "lab-node", "systemd"),
    )  # fmt: skip


def macros() -> tuple[Package, ...]:
    """What specs of RPM distributions expect for units, Python and CMake, written for the lab."""
    return (
        _macros("systemd-rpm-macros", "systemd", ()),
        _macros("python-rpm-macros", "python", ("python3-rpm-macros", "pyproject-rpm-macros")),
        _macros("cmake-rpm-macros", "cmake", ()),
    )


def _macros(name: str, kind: str, provides: tuple[str, ...]) -> Package:
    entries = (
        file(f"/usr/lib/rpm/macros.d/macros.{kind}", (_MACROS / f"macros.{kind}").read_text()),
    )
    return Package(
        name, "1", "1.lab1", "noarch", f"Macros of specs: {kind}", entries,
        requires=("filesystem", "rpm-common"), provides=provides,
    )  # fmt: skip
