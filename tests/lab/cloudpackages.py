# SPDX-License-Identifier: GPL-2.0-or-later
"""What makes the lab's node tree a cloud image: a first process, and cloud-init's configuration."""

from __future__ import annotations

from pathlib import Path

from tests.lab.rpmspec import Package, file, link

_GUEST = Path(__file__).parent / "clouds" / "guest"

# Modules and defaults of Fedora's and EL's cloud images, without what a node of the lab has no
# use for (mounts, growpart, locale, ntp, packages, other configuration managers).
_CLOUD_CFG = """\
datasource_list: [OpenStack, Ec2]
datasource:
  Ec2:
    metadata_urls: ["http://169.254.169.254"]
    timeout: 5
    max_wait: 30
  OpenStack:
    metadata_urls: ["http://169.254.169.254"]
    timeout: 5
    max_wait: 30
# The host gives a node its address before the first process starts.
network: {config: disabled}
disable_root: true
preserve_hostname: false
ssh_pwauth: false
users: [default]
cloud_init_modules:
  [seed_random, bootcmd, write-files, set_hostname, update_hostname, users-groups, ssh]
cloud_config_modules: [set-passwords, runcmd]
cloud_final_modules:
  [scripts-per-once, scripts-per-boot, scripts-per-instance, scripts-user, final-message,
   power-state-change]
system_info:
  # Without systemd, cloud-init's classes for Fedora write /etc/sysconfig/network; this one leaves
  # /etc/hostname as hostnamectl does there.
  distro: debian
  default_user: {name: cloud-user, lock_passwd: true, shell: /bin/bash}
  paths: {cloud_dir: /var/lib/cloud/, templates_dir: /etc/cloud/templates/}
  ssh_svcname: sshd
"""


def cloud() -> Package:
    """pid 1 and its commands, and what a cloud image sets for cloud-init."""
    entries = (
        file("/usr/sbin/init", (_GUEST / "init.py").read_text(), 0o755),
        file("/usr/sbin/shutdown", (_GUEST / "shutdown.py").read_text(), 0o755),
        file("/usr/sbin/dmidecode", (_GUEST / "dmidecode.py").read_text(), 0o755),
        *(link(f"/usr/sbin/{name}", "shutdown") for name in ("halt", "poweroff", "reboot")),
        file("/etc/cloud/cloud.cfg.d/50_lab.cfg", _CLOUD_CFG),
        # Without it cloud-init takes ifupdown for absent.
        file("/etc/network/interfaces", "# The host gives a node its address.\n"),
    )
    return Package(
        "lab-cloud", "1", "1.lab1", "noarch", "What a node in the lab's clouds boots", entries,
        requires=("filesystem", "cloud-init", "lab-node", "python3"),
    )  # fmt: skip
