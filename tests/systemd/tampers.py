# SPDX-License-Identifier: GPL-2.0-or-later
"""What systemd and its friends would run or believe, were it left on a machine: one line each.

Numbers are of the tamper catalogue. A script is run by root on the machine; `undo` puts it back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MADE: Final = "/dev/shm/made"
"""On the machine: directories that were made, the deepest of each script first."""


@dataclass(frozen=True, slots=True)
class Tamper:
    """One way to stay on a machine. Refused for `code`, which names `subject` or a part of it."""

    number: str
    what: str
    script: str
    code: str
    subject: str
    undo: str = ""


def _written(
    number: str, what: str, path: str, text: str, code: str = "file.unknown", mode: str = "0644"
) -> Tamper:
    """A new file; directories that are made for it go with it."""
    directory = path.rpartition("/")[0]
    script = (
        f'd={directory}; n=; while [ ! -d $d ]; do n="$d $n"; d=$(dirname $d); done;'
        f" for d in $n; do mkdir $d; echo $d >> {MADE}; done;"
        f" printf '%b' '{text}' > {path}; chmod {mode} {path}"
    )
    return Tamper(number, what, script, code, path, f"rm -f {path}")


def _changed(number: str, what: str, path: str, script: str, code: str) -> Tamper:
    """A file changed by `script` (``$f`` is the file), put back byte for byte, or not there."""
    keep = f"/dev/shm/keep{path.replace('/', '-')}"
    return Tamper(
        number,
        what,
        f"f={path}; if [ -e $f ]; then cp -a $f {keep}; else touch {keep}.none; fi; {script}",
        code,
        path,
        f"if [ -e {keep} ]; then cp -a {keep} {path}; rm {keep}; fi;"
        f" [ ! -e {keep}.none ] || rm {path} {keep}.none",
    )


_UNIT: Final = "[Service]\\nExecStart=/bin/true\\n"
_DROP_IN: Final = "[Service]\\nExecStartPre=/bin/true\\n"
_TIMER: Final = "[Timer]\\nOnCalendar=daily\\n"
_RULE: Final = 'ACTION=="add", RUN+="/bin/true"\\n'
_SCRIPT: Final = "#!/bin/sh\\nexit 0\\n"
_GRUBENV: Final = (
    "(head -c 24 $f; printf '\\nkernelopts=init=/tmp/x\\n'; head -c 2000 /dev/zero | tr '\\0' '#')"
    " | head -c 1024 > /dev/shm/env; cat /dev/shm/env > $f; rm /dev/shm/env"
)
_ENABLED: Final = "/etc/systemd/system/multi-user.target.wants/debug-shell.service"
_AS_USER: Final = "XDG_RUNTIME_DIR=/run/user/0"
_NM_DNS: Final = "[connection]\\nid=cloud-init eth9\\ntype=ethernet\\n[ipv4]\\ndns=1.1.1.1;\\n"
_PATTERN: Final = "/proc/sys/kernel/core_pattern"
_PRELOAD: Final = "LD_PRELOAD=/usr/lib/x86_64-linux-gnu/libz.so.1"
_PRIVATE_TMP: Final = "$(ls -d /tmp/systemd-private-*/tmp | head -n 1)"

FILES: Final = (
    _written("22", "unit in /etc", "/etc/systemd/system/evil.service", _UNIT),
    _written("22", "unit in /run", "/run/systemd/system/evil.service", _UNIT),
    _written("22", "unit in /usr/local", "/usr/local/lib/systemd/system/evil.service", _UNIT),
    _written("22", "drop-in in /etc", "/etc/systemd/system/ssh.service.d/evil.conf", _DROP_IN),
    _written("22", "drop-in in /run", "/run/systemd/system/ssh.service.d/evil.conf", _DROP_IN),
    _written("22", "drop-in for all services", "/etc/systemd/system/service.d/evil.conf", _DROP_IN),
    _written(
        "22",
        "drop-in by set-property",
        "/run/systemd/system.control/ssh.service.d/50.conf",
        _DROP_IN,
    ),
    _written(
        "22",
        "drop-in for the manager",
        "/run/systemd/system.conf.d/evil.conf",
        "[Manager]\\nDefaultEnvironment=LD_PRELOAD=/x\\n",
    ),
    _written(
        "22", "transient unit's file", "/run/systemd/transient/evil.service", _UNIT, "file.volatile"
    ),
    Tamper(
        "22",
        "unit enabled by a link",
        f"ln -s /usr/lib/systemd/system/debug-shell.service {_ENABLED}",
        "file.unknown",
        _ENABLED,
        f"rm {_ENABLED}",
    ),
    Tamper(
        "22",
        "unit masked",
        "ln -s /dev/null /etc/systemd/system/logrotate.timer",
        "file.unknown",
        "/etc/systemd/system/logrotate.timer",
        "rm /etc/systemd/system/logrotate.timer",
    ),
    _written("22", "user unit in /etc", "/etc/systemd/user/evil.service", _UNIT),
    _written("22", "root's user unit", "/root/.config/systemd/user/evil.service", _UNIT),
    _written("22", "user unit in /run", "/run/systemd/user/evil.service", _UNIT),
    _written("22", "lingering root", "/var/lib/systemd/linger/root", ""),
    _written(
        "23", "generator in /etc", "/etc/systemd/system-generators/evil", _SCRIPT, mode="0755"
    ),
    _written(
        "23", "generator in /run", "/run/systemd/system-generators/evil", _SCRIPT, mode="0755"
    ),
    _written("23", "generated unit", "/run/systemd/generator.late/evil.service", _UNIT),
    _written(
        "23",
        "environment generator",
        "/etc/systemd/system-environment-generators/evil",
        _SCRIPT,
        mode="0755",
    ),
    _written("23", "timer", "/etc/systemd/system/evil.timer", _TIMER),
    _written(
        "23",
        "timer's stamp that holds something",
        "/var/lib/systemd/timers/stamp-evil.timer",
        _SCRIPT,
        "file.volatile",
    ),
    _written("25", "udev rule in /etc", "/etc/udev/rules.d/99-evil.rules", _RULE, "file.volatile"),
    _written("25", "udev rule in /run", "/run/udev/rules.d/99-evil.rules", _RULE),
    _written(
        "25",
        "udev rule under cloud-init's name",
        "/etc/udev/rules.d/70-persistent-net.rules",
        _RULE,
        "file.volatile",
    ),
    _written(
        "25", "modprobe install line", "/run/modprobe.d/evil.conf", "install dummy /bin/true\\n"
    ),
    _written("25", "module to load", "/run/modules-load.d/evil.conf", "dummy\\n"),
    _written("22", "tmpfiles in /etc", "/etc/tmpfiles.d/evil.conf", "f+ /etc/evil - - - - x\\n"),
    _written("22", "tmpfiles in /run", "/run/tmpfiles.d/evil.conf", "f+ /etc/evil - - - - x\\n"),
    _written("20", "sysusers in /run", "/run/sysusers.d/evil.conf", "u evil 0 - /root\\n"),
    _written("26", "sysctl in /run", "/run/sysctl.d/evil.conf", "kernel.core_pattern=|/x\\n"),
    _written("27", "binfmt in /run", "/run/binfmt.d/evil.conf", ":e:E::e::/bin/true:\\n"),
    _written("15", "environment.d", "/etc/environment.d/evil.conf", "LD_PRELOAD=/x\\n"),
    _written("22", "system extension", "/run/extensions/evil/usr/bin/evil", _SCRIPT, mode="0755"),
    _written("22", "configuration extension", "/var/lib/confexts/evil/etc/evil", "x\\n"),
    _written("22", "portable service", "/run/portables/evil/evil.service", _UNIT),
    _written("20", "credential for systemd", "/etc/credstore/passwd.hashed-password.root", "x"),
    _written("20", "credential in /run", "/run/credstore/passwd.hashed-password.root", "x"),
    _written(
        "22", "shutdown program in /run/initramfs", "/run/initramfs/shutdown", _SCRIPT, mode="0755"
    ),
    _written(
        "22",
        "systemd's shutdown hook",
        "/usr/lib/systemd/system-shutdown/evil",
        _SCRIPT,
        mode="0755",
    ),
    _written(
        "47",
        "NetworkManager dispatcher",
        "/etc/NetworkManager/dispatcher.d/99-evil",
        _SCRIPT,
        mode="0755",
    ),
    _written(
        "47",
        "NetworkManager drop-in in /run",
        "/run/NetworkManager/conf.d/evil.conf",
        "[main]\\ndns=none\\n",
    ),
    _written(
        "47",
        "NetworkManager connection in /run",
        "/run/NetworkManager/system-connections/evil.nmconnection",
        "[vpn]\\n",
        "file.volatile",
        "0600",
    ),
    _written(
        "47",
        "another name server under cloud-init's name",
        "/etc/NetworkManager/system-connections/cloud-init-eth9.nmconnection",
        _NM_DNS,
        "file.volatile",
        "0600",
    ),
    _written(
        "47",
        "resolved drop-in in /run",
        "/run/systemd/resolved.conf.d/evil.conf",
        "[Resolve]\\nDNS=1.1.1.1\\n",
    ),
    Tamper(
        "47",
        "another name server in resolv.conf",
        "cp /etc/resolv.conf /dev/shm/resolv; echo nameserver 1.1.1.1 >> /etc/resolv.conf",
        "file.volatile",
        "resolv.conf",
        "cat /dev/shm/resolv > /etc/resolv.conf; rm /dev/shm/resolv",
    ),
    _written("16", "PAM service", "/etc/pam.d/evil", "auth sufficient pam_permit.so\\n"),
    _changed(
        "16",
        "PAM: anybody is let in",
        "/etc/pam.d/common-auth",
        "echo auth sufficient pam_permit.so >> $f",
        "file.digest",
    ),
    _written(
        "20",
        "sudoers drop-in",
        "/etc/sudoers.d/evil",
        "nobody ALL=(ALL) NOPASSWD: ALL\\n",
        mode="0440",
    ),
    _written(
        "20",
        "sudoers under cloud-init's name",
        "/etc/sudoers.d/90-cloud-init-users",
        "nobody ALL=(ALL) NOPASSWD: ALL\\n",
        mode="0440",
    ),
    _written("20", "polkit rule", "/etc/polkit-1/rules.d/evil.rules", "polkit.addRule();\\n"),
    _written("20", "D-Bus policy", "/etc/dbus-1/system.d/evil.conf", "<busconfig/>\\n"),
    _changed(
        "20",
        "account with uid 0",
        "/etc/passwd",
        "echo 'evil:x:0:0::/:/bin/sh' >> $f",
        "file.digest",
    ),
    _written("18", "sshd drop-in", "/etc/ssh/sshd_config.d/evil.conf", "PermitRootLogin yes\\n"),
    _changed(
        "18",
        "sshd drop-in under cloud-init's name",
        "/etc/ssh/sshd_config.d/50-cloud-init.conf",
        "echo PermitRootLogin yes >> $f",
        "file.volatile",
    ),
    _changed(
        "19",
        "a second key of root's",
        "/root/.ssh/authorized_keys",
        "echo ssh-ed25519 AAAA evil >> $f",
        "file.digest",
    ),
    _written("13", "ld.so.preload", "/etc/ld.so.preload", ""),
    _written("15", "profile", "/etc/profile.d/evil.sh", "true\\n"),
    _written("24", "cron in a place of anacron's", "/var/spool/cron/root", "* * * * * true\\n"),
    _changed(
        "22",
        "machine-id that carries something",
        "/etc/machine-id",
        "echo '#!/bin/sh' >> $f",
        "file.volatile",
    ),
    _changed("28", "grubenv with kernel options", "/boot/grub2/grubenv", _GRUBENV, "file.volatile"),
    _changed("28", "grub.cfg", "/boot/grub2/grub.cfg", "echo '# x' >> $f", "file.digest"),
    Tamper(
        "28",
        "initramfs",
        "for f in /boot/initramfs-*.img; do cp -a $f /dev/shm/; printf x >> $f; done",
        "file.digest",
        "/boot/initramfs-",
        "mv /dev/shm/initramfs-*.img /boot/",
    ),
    _changed(
        "28",
        "boot loader on the ESP",
        "/boot/efi/EFI/BOOT/BOOTX64.EFI",
        "printf x >> $f",
        "file.digest",
    ),
    _written("28", "second loader on the ESP", "/boot/efi/EFI/BOOT/EVIL.EFI", "x", mode="0700"),
    _changed(
        "22",
        "/etc/.updated that carries something",
        "/etc/.updated",
        "echo '#!/bin/sh' >> $f",
        "file.volatile",
    ),
    _written(
        "22",
        "script of cloud-init's, at each boot",
        "/var/lib/cloud/scripts/per-boot/evil",
        _SCRIPT,
        "file.volatile",
        "0755",
    ),
    _changed(
        "22",
        "cloud-init's configuration in /run",
        "/run/cloud-init/cloud.cfg",
        "echo 'runcmd: [[/bin/true]]' >> $f",
        "file.volatile",
    ),
    Tamper(
        "2",
        "program in a service's private /tmp",
        f"printf x > {_PRIVATE_TMP}/evil",
        "file.unknown",
        "/tmp/evil",
        f"rm {_PRIVATE_TMP}/evil",
    ),
    _written("53", "program in /var/tmp", "/var/tmp/evil", _SCRIPT, mode="0755"),
    _changed("14", "ld.so.conf", "/etc/ld.so.conf", "echo /tmp >> $f", "file.digest"),
)

# What runs, or the kernel has: each by itself, since it ends or is unloaded afterwards.
RUNNING: Final = (
    Tamper(
        "22",
        "transient service, by systemd-run",
        "systemd-run -q --unit evil sleep 1000",
        "process.unknown",
        "/usr/bin/sleep",
        "systemctl stop evil",
    ),
    Tamper(
        "23",
        "transient timer, by systemd-run",
        "systemd-run -q --unit evil2 --on-active=1d true",
        "file.volatile",
        "/run/systemd/transient/evil2.timer",
        "systemctl stop evil2.timer",
    ),
    Tamper(
        "22",
        "user's service, by systemd-run",
        f"{_AS_USER} systemd-run -q --user --unit evil3 sleep 1000",
        "process.unknown",
        "/usr/bin/sleep",
        f"{_AS_USER} systemctl --user stop evil3",
    ),
    Tamper("36", "kernel module", "modprobe dummy", "kernel.module", "dummy", "rmmod dummy"),
    Tamper(
        "26",
        "core_pattern",
        f"cat {_PATTERN} > /dev/shm/pattern; echo '|/bin/true' > {_PATTERN}",
        "kernel.core-pattern",
        "core_pattern",
        f"cat /dev/shm/pattern > {_PATTERN}; rm /dev/shm/pattern",
    ),
    Tamper(
        "8",
        "bind mount over a good file",
        "mount --bind /usr/bin/true /usr/bin/false",
        "mount.unknown",
        "/usr/bin/false",
        "umount /usr/bin/false",
    ),
    Tamper(
        "15",
        "LD_PRELOAD in a service's environment, by the manager",
        f"systemctl set-environment {_PRELOAD}; systemctl restart chrony",
        "process.environment",
        "chronyd",
        "systemctl unset-environment LD_PRELOAD; systemctl restart chrony",
    ),
    Tamper(
        "33",
        "debug shell on a console",
        "systemctl start debug-shell",
        "process.unknown",
        "sh",
        "systemctl stop debug-shell",
    ),
)
