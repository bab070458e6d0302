# SPDX-License-Identifier: GPL-2.0-or-later
"""What systemd and a distribution's daemons keep while a machine runs, name by name.

An instance of an image has no file in /run that anybody could have signed. So each name stands
here with what it may be; a name that does not is unknown, and refused. Places that are read as
code or as configuration (units, generators, rules, drop-ins, sysexts) do not stand here.

Names are of systemd 249 to 262 (src/core, src/login, src/journal, src/udev, src/resolve,
tmpfiles.d), NetworkManager 1.36 to 1.58 (src/core/nm-config.c, src/core/dhcp), chrony 4,
dracut 112, dhcpcd 10, logrotate 3, sudo 1.9; and of what Fedora's and EL's cloud images enable
besides (sssd-kcm, pcscd, dm-event, irqbalance, udisks2, tuned, rsyslog, fwupd, unbound-anchor).
"""

from __future__ import annotations

import functools
import re
from enum import Enum
from typing import Final

RUNTIME_PLACES: Final = (
    "/run", "/tmp", "/var/tmp",  # noqa: S108
    "/var/cache/dnf", "/var/cache/fwupd", "/var/cache/ldconfig", "/var/cache/libdnf5",
    "/var/cache/man", "/var/lib/NetworkManager", "/var/lib/chrony", "/var/lib/dhcpcd",
    "/var/lib/dnf", "/var/lib/fwupd", "/var/lib/lastlog", "/var/lib/logrotate", "/var/lib/mlocate",
    "/var/lib/plocate", "/var/lib/private", "/var/lib/rsyslog", "/var/lib/sudo", "/var/lib/systemd",
    "/var/lib/udisks2", "/var/lib/unbound", "/var/lib/wtmpdb", "/var/spool/anacron",
    "/var/spool/mail",
)  # fmt: skip
"""Below these the names are; what else lies there has no shape."""

GENERATED: Final = (
    "/run/systemd/generator", "/run/systemd/generator.early", "/run/systemd/generator.late",
    "/run/tmpfiles.d",
)  # fmt: skip
"""Code that a boot writes anew, and the same each time: pinned, for an image too."""


class Allowed(Enum):
    """What may stand at a place."""

    DIRECTORY = "directory"
    """Root's, not for others to write."""
    STATE = "state"
    """Data, sockets and directories of any owner; links to what lies beside them, to devices and to
    systemd's own sockets."""
    DATA = "data"
    SOCKET = "socket"
    INACCESSIBLE = "inaccessible"
    """systemd's nodes that cover what a service may not see: nobody may open them."""


_UUID: Final = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_WORD: Final = "[A-Za-z0-9@:_.\\\\-]{1,200}"
_BOOT: Final = "[0-9a-f]{32}"
# src/basic/tmpfile-util.c: temporary names of what is renamed a moment later.
_SOCKET: Final = "io\\.systemd?\\.[A-Za-z][A-Za-z0-9.]{0,80}(?:/[a-z]{1,20})?"
_SOCKET_DIRECTORIES: Final = "(?:journal|machine|report|resolve|resolve\\.hook)/"
_GNUPG: Final = "S\\.[a-z.-]{1,40}"
_BELOW: Final = "(?:/.*)?"
_SYSTEMD_STATE: Final = "|".join((
    "ask-password", "ask-password-block", "dynamic-uid", "home", "incoming", "inhibit", "journal",
    "machines", "netif", "oom", "propagate", "quotacheck", "report", "seats", "sessions", "sleep",
    "timesync", "units", "unit-root", "userdb", "users",
))  # fmt: skip
_SYSTEMD_DIRECTORIES: Final = "|".join((
    "", "/dissect-root", "/ephemeral-trees", "/generator(?:\\.early|\\.late)?", "/inaccessible",
    "/mount-rootfs", "/report\\.sign", "/shutdown", "/stub", "/system", "/system\\.control",
    "/transient", "/user",
))  # fmt: skip
_SHAPES: Final = (
    (f"/run/systemd(?:{_SYSTEMD_DIRECTORIES})", Allowed.DIRECTORY),
    (f"/run/systemd/(?:{_SYSTEMD_STATE}){_BELOW}", Allowed.STATE),
    ("/run/systemd/resolve(?:\\.hook|/netif(?:/[0-9]+)?|/dns-delegate)?", Allowed.STATE),
    (f"/run/(?:user/0/)?systemd/(?:{_SOCKET_DIRECTORIES})?{_SOCKET}", Allowed.STATE),
    ("/run/(?:user/0/)?systemd/(?:machine|report)", Allowed.DIRECTORY),
    ("/run/systemd/(?:notify|private|cgroups-agent|fsck\\.progress)", Allowed.SOCKET),
    ("/run/systemd/(?:show-status|default-hostname|first-boot|systemd-units-load)",
     Allowed.DATA),
    ("/run/systemd/(?:container|veritysetup\\.rng|reboot-param)", Allowed.DATA),
    ("/run/systemd/shutdown/scheduled", Allowed.DATA),
    ("/run/systemd/inaccessible/(?:reg|dir|chr|blk|fifo|sock)", Allowed.INACCESSIBLE),
    ("/run/(?:credentials|initramfs|lock|log|mount|udev|user)", Allowed.DIRECTORY),
    ("/run/(?:user/0/)?varlink(?:/registry)?", Allowed.DIRECTORY),
    (f"/run/(?:user/0/)?varlink/registry/{_SOCKET}", Allowed.STATE),
    (f"/run/credentials/{_WORD}", Allowed.STATE),
    ("/run/fsck(?:/[a-z0-9-]{1,40}\\.lock)?", Allowed.STATE),
    (f"/run/udev/(?:data|links|links\\.lock|tags|watch){_BELOW}", Allowed.STATE),
    ("/run/udev/(?:control|io\\.systemd\\.Udev)", Allowed.STATE),
    ("/run/udev/queue", Allowed.DATA),
    ("/run/udev/static_node-tags(?:/[a-z0-9-]+)?", Allowed.DIRECTORY),
    (f"/run/udev/static_node-tags/[a-z0-9-]+/{_WORD}", Allowed.STATE),
    (f"/run/(?:blkid|chrony|chrony-dhcp|lock|log/journal|sudo|dhcpcd|agetty\\.reload){_BELOW}",
     Allowed.STATE),
    ("/run/initramfs/(?:\\.need_shutdown|state)", Allowed.DATA),
    ("/run/initramfs/(?:cmdline\\.d|log(?:/private)?|systemd(?:/[a-z-]{1,40})?)",
     Allowed.DIRECTORY),
    ("/run/dbus(?:/containers)?|/run/sendsigs\\.omit\\.d|/run/sshd|/run/motd\\.d",
     Allowed.DIRECTORY),
    ("/run/dbus/system_bus_socket|/run/initctl|/run/ssh-unix-local/socket", Allowed.SOCKET),
    ("/run/ssh-unix-local", Allowed.DIRECTORY),
    ("/run/shm", Allowed.STATE),
    ("/run/(?:utmp|nologin|motd\\.dynamic|cron\\.reboot|auditd\\.state)", Allowed.DATA),
    ("/run/[a-z][a-z0-9_-]{0,30}(?:/[a-z][a-z0-9_-]{0,30})?\\.pid", Allowed.DATA),
    ("/run/NetworkManager(?:/(?:conf\\.d|devices|proxy|system-connections))?",
     Allowed.DIRECTORY),
    ("/run/NetworkManager/(?:devices/[0-9]+|nm-dhcp-.*\\.conf|dhcp-.*\\.conf)", Allowed.DATA),
    ("/run/user/0(?:/systemd(?:/(?:inaccessible|transient|generator(?:\\.early|\\.late)?))?)?",
     Allowed.DIRECTORY),
    ("/run/user/0/systemd/(?:units|propagate)" + _BELOW, Allowed.STATE),
    ("/run/user/0/systemd/(?:private|notify)", Allowed.SOCKET),
    ("/run/user/0/systemd/inaccessible/(?:reg|dir|chr|blk|fifo|sock)", Allowed.INACCESSIBLE),
    ("/run/user/0/bus", Allowed.SOCKET),
    (f"/run/user/0/gnupg(?:/(?:{_GNUPG}|d\\.[a-z0-9]{{20,30}}(?:/{_GNUPG})?))?", Allowed.STATE),
    ("/run/dnf(?:/rpmtransaction\\.lock)?", Allowed.STATE),
    ("/run/dhclient\\.lease", Allowed.DATA),  # cloudinit/net/dhcp.py, which begins by removing it
    (f"(?:/tmp|/var/tmp)/systemd-private-{_BOOT}-{_WORD}(?:/tmp)?", Allowed.DIRECTORY),
    ("/tmp/\\.(?:X11|ICE|XIM|font)-unix", Allowed.DIRECTORY),  # noqa: S108
    ("/var/tmp/cloud-init", Allowed.DIRECTORY),  # noqa: S108 - cloudinit/temp_utils.py, growpart's
    ("/var/lib/systemd(?:/(?:coredump|ephemeral-trees|linger|pstore))?", Allowed.DIRECTORY),
    (f"/var/lib/systemd/(?:backlight|rfkill|network){_BELOW}", Allowed.STATE),
    ("/var/lib/systemd/(?:random-seed|credential\\.secret|timesync/clock)", Allowed.STATE),
    ("/var/lib/systemd/tpm2-srk-public-key\\.[a-z]{3,6}", Allowed.DATA),
    ("/var/lib/NetworkManager/(?:secret_key|timestamps|seen-bssids|NetworkManager\\.state)",
     Allowed.DATA),
    (f"/var/lib/NetworkManager/(?:internal|dhclient)-{_UUID}-{_WORD}\\.lease", Allowed.DATA),
    (f"/var/lib/(?:chrony|dhcpcd|logrotate|sudo)(?:/{_WORD})?", Allowed.STATE),
    ("/var/lib/private|/var/spool/anacron", Allowed.DIRECTORY),
    ("/var/spool/anacron/cron\\.(?:daily|weekly|monthly)", Allowed.DATA),
    ("/var/cache/ldconfig/aux-cache", Allowed.DATA),
    ("/run/\\.heim_org\\.h5l\\.kcm-socket|/run/dmeventd-(?:client|server)", Allowed.SOCKET),
    ("/run/tuned/tuned\\.sock", Allowed.SOCKET),
    ("/run/(?:chrony\\.d|mdadm|tuned|udisks2)", Allowed.DIRECTORY),
    ("/run/tuned/save\\.pickle", Allowed.DATA),  # removed before a job: agent.serve_hardening
    ("/run/pcscd(?:/pcscd\\.comm)?", Allowed.STATE),
    ("/run/irqbalance(?:/irqbalance[0-9]{1,7}\\.sock)?", Allowed.STATE),
    ("/run/lvm(?:/lvmpolld\\.socket|/(?:pvs|vgs)_(?:lookup|online)(?:/" + _WORD + ")?)?",
     Allowed.STATE),
    ("/run/faillock(?:/[a-z_][a-z0-9_-]{0,31})?", Allowed.STATE),
    (f"/var/lib/systemd/coredump/core\\.{_WORD}", Allowed.STATE),
    ("/var/lib/rsyslog(?:/imjournal\\.state(?:\\.tmp)?)?", Allowed.STATE),
    ("/var/lib/udisks2(?:/mounted-fs(?:-persistent)?)?", Allowed.STATE),
    ("/var/lib/(?:mlocate(?:/mlocate\\.db)?|plocate(?:/plocate\\.db)?)", Allowed.STATE),
    ("/var/lib/(?:wtmpdb(?:/wtmp\\.db)?|lastlog(?:/lastlog2\\.db)?)", Allowed.STATE),
    ("/var/lib/unbound(?:/root\\.key)?", Allowed.STATE),
    ("/var/lib/dnf(?:/history\\.sqlite(?:-shm|-wal)?)?", Allowed.STATE),
    (f"/var/lib/dnf/repos(?:/{_WORD}(?:/countme)?)?", Allowed.STATE),
    ("/var/lib/fwupd(?:/pending\\.db)?", Allowed.STATE),
    (f"/var/lib/fwupd/metadata(?:/{_WORD}(?:/{_WORD})?)?", Allowed.STATE),
    (f"/var/cache/(?:fwupd|man){_BELOW}", Allowed.STATE),
    ("/var/spool/mail(?:/[a-z_][a-z0-9_-]{0,31})?", Allowed.STATE),
    (f"/var/cache/(?:dnf|libdnf5){_BELOW}", Allowed.STATE),
)  # fmt: skip
_TARGETS: Final = re.compile(
    f"(?:-?[0-9]{{1,6}}:)?/dev/[A-Za-z0-9/_.:-]{{1,200}}|"  # src/udev/udev-node.c: with a priority
    f"(?:/run/(?:user/0/)?|(?:\\.\\./)+)(?:systemd|udev)/(?:{_SOCKET_DIRECTORIES})?{_SOCKET}"
)


@functools.cache
def _shapes() -> tuple[tuple[re.Pattern[str], Allowed], ...]:
    """Compiled for the first measurement: most commands rely on none of their own."""
    return tuple((re.compile(pattern), shape) for pattern, shape in _SHAPES)


def find_allowed(path: str) -> Allowed | None:
    """What may be at `path`; None for a name that no daemon is known to have."""
    for pattern, shape in _shapes():
        if pattern.fullmatch(path):
            return shape
    return None


def is_own_target(target: str) -> bool:
    """Whether a link leads to a device or a socket, as udev's and systemd's own do."""
    return _TARGETS.fullmatch(target) is not None and ".." not in target.lstrip("./").split("/")


def is_generated(path: str) -> bool:
    """Whether this is code that each boot writes anew."""
    return path in GENERATED or path.startswith(tuple(f"{one}/" for one in GENERATED))
