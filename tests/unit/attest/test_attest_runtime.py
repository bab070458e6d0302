# SPDX-License-Identifier: GPL-2.0-or-later
"""What may lie below /run and in daemons' state, and what may not, whatever it is called."""

from __future__ import annotations

import pytest

from mock_cloud.attest.files import FileFact
from mock_cloud.attest.rules import runtime
from mock_cloud.attest.rules.machine import systemd_rules
from mock_cloud.attest.rules.volatile import Volatile, VolatileKind, VolatileRule, fits

RULES = Volatile(systemd_rules(of_instances=True))


_PRIVATE = "/tmp/systemd-private-0123456789abcdef0123456789abcdef-chrony.service-aB3xYz"
_LEASE = "/var/lib/NetworkManager/internal-d0c7ecc6-a5f8-4d5e-9a5a-000000000000-eth0.lease"
_VARLINK = "/run/varlink/registry/io.systemd.Journal"


def fact(path: str, type_: str = "f", mode: int = 0o644, value: str | None = None) -> FileFact:
    return FileFact(path, type_, mode, 0, 0, 10, value, ())


def passes(one: FileFact) -> bool:
    rule = RULES.find(one.path)
    return rule is not None and fits(rule, one)


@pytest.mark.parametrize(
    "path",
    [
        "/run/systemd/system/evil.service",
        "/run/systemd/system.control/sshd.service.d/50.conf",
        "/run/systemd/system/sshd.service.d/x.conf",
        "/run/systemd/transient/run-u5.service",
        "/run/systemd/generator/evil.service",
        "/run/systemd/generator.late/multi-user.target.wants/evil.service",
        "/run/systemd/system-generators/evil",
        "/run/systemd/user/evil.service",
        "/run/systemd/user-generators/evil",
        "/run/systemd/system.conf.d/x.conf",
        "/run/systemd/resolved.conf.d/x.conf",
        "/run/systemd/journald.conf.d/x.conf",
        "/run/systemd/network/x.network",
        "/run/systemd/nspawn/x.nspawn",
        "/run/systemd/dnssd/x.dnssd",
        "/run/udev/rules.d/00-evil.rules",
        "/run/udev/udev.conf.d/x.conf",
        "/run/udev/hwdb.d/x.hwdb",
        "/run/tmpfiles.d/evil.conf",
        "/run/sysusers.d/evil.conf",
        "/run/sysctl.d/evil.conf",
        "/run/modprobe.d/evil.conf",
        "/run/modules-load.d/evil.conf",
        "/run/binfmt.d/evil.conf",
        "/run/environment.d/evil.conf",
        "/run/repart.d/evil.conf",
        "/run/extensions/evil.raw",
        "/run/confexts/evil",
        "/run/portables/evil",
        "/run/machines/evil",
        "/run/credentials/@system/passwd.hashed-password.root",
        "/run/credstore/passwd.hashed-password.root",
        "/run/initramfs/shutdown",
        "/run/NetworkManager/conf.d/evil.conf",
        "/run/NetworkManager/system-connections/evil.nmconnection",
        "/run/polkit-1/rules.d/evil.rules",
        "/run/dbus-1/system.d/evil.conf",
        "/run/user/0/systemd/user/evil.service",
        "/run/user/0/systemd/transient/evil.service",
        "/run/user/0/systemd/generator/evil.service",
        "/run/user/0/environment.d/evil.conf",
        "/run/user/1000/bus",
        "/run/user/0/gnupg/gpg.conf",
        "/run/dnf/plugins/evil",
        "/run/cloud-init/evil",
        "/run/evil",
        "/tmp/evil",
        "/tmp/systemd-private-0123456789abcdef0123456789abcdef-x.service-A/tmp/evil",
        "/var/tmp/evil",
        "/var/lib/systemd/linger/root",
        "/var/lib/systemd/user-evil",
        "/var/lib/NetworkManager/NetworkManager-intern.conf",
        "/var/lib/NetworkManager/evil",
        "/var/lib/private/evil",
        "/var/spool/anacron/evil",
        "/run/tuned/evil",
        "/run/chrony.d/evil.sources",
        "/run/lvm/evil",
        "/var/lib/sss/mc/passwd",
        "/var/lib/sss/db/cache_implicit_files.ldb",
        "/var/lib/fwupd/remotes.d/evil.conf",
        "/var/lib/dnf/evil",
        "/var/lib/rsyslog/evil",
        "/var/lib/dhclient/dhclient.leases",
        "/run/dhclient.conf",
        "/run/dhclient-eth0.lease",
    ],
)  # fmt: skip
def test_what_is_code_or_nobody_knows_has_no_place(path: str) -> None:
    for one in (fact(path), fact(path, "d", 0o755), fact(path, "s"), fact(path, "l", 0o777, "x")):
        assert not passes(one), one


@pytest.mark.parametrize(
    ("path", "type_", "mode", "value"),
    [
        ("/run/systemd/units/invocation:sshd.service", "l", 0o777, "0123456789abcdef"),
        ("/run/systemd/sessions/4", "f", 0o644, "digest"),
        ("/run/systemd/journal/streams/9:1234", "f", 0o640, "digest"),
        ("/run/systemd/private", "s", 0o777, None),
        ("/run/systemd/io.systemd.Manager", "s", 0o666, None),
        ("/run/systemd/inaccessible/chr", "c", 0, "0:0"),
        ("/run/systemd/inaccessible/dir", "d", 0, None),
        ("/run/systemd/system", "d", 0o755, None),
        (_VARLINK, "l", 0o777, "../../systemd/journal/io.systemd.journal"),
        ("/run/udev/static_node-tags/uaccess/snd\\x2fseq", "l", 0o777, "/dev/snd/seq"),
        ("/run/udev/control", "s", 0o600, None),
        ("/run/udev/data/b252:0", "f", 0o644, "digest"),
        ("/run/NetworkManager/devices/2", "f", 0o644, "digest"),
        ("/run/user/0/bus", "s", 0o666, None),
        ("/run/user/0/gnupg/d.anxbiex5mhu5do564x344j5w", "d", 0o700, None),
        ("/run/user/0/gnupg/d.anxbiex5mhu5do564x344j5w/S.gpg-agent", "s", 0o600, None),
        ("/run/dnf", "d", 0o755, None),
        ("/run/user/0/systemd/private", "s", 0o755, None),
        ("/run/chrony/chronyd.sock", "s", 0o755, None),
        ("/run/dbus/system_bus_socket", "s", 0o666, None),
        (_PRIVATE, "d", 0o700, None),
        (f"{_PRIVATE}/tmp", "d", 0o1777, None),
        ("/var/tmp/cloud-init", "d", 0o1777, None),
        ("/var/lib/NetworkManager/secret_key", "f", 0o600, "digest"),
        (_LEASE, "f", 0o600, "digest"),
        ("/run/dhclient.lease", "f", 0o644, "digest"),
        ("/run/dhclient.pid", "f", 0o644, "digest"),
        ("/var/log/README", "l", 0o777, "../../usr/share/doc/systemd/README.logs"),
        ("/var/lib/systemd/random-seed", "f", 0o600, "digest"),
        ("/var/lib/logrotate/status", "f", 0o640, "digest"),
        ("/var/cache/libdnf5/x-1/repodata/repomd.xml", "f", 0o644, "digest"),
        # What Fedora's, CentOS Stream's and RHEL's cloud images enable besides.
        ("/run/.heim_org.h5l.kcm-socket", "s", 0o666, None),
        ("/run/pcscd/pcscd.comm", "s", 0o666, None),
        ("/run/dmeventd-server", "p", 0o600, None),
        ("/run/lvm/lvmpolld.socket", "s", 0o600, None),
        ("/run/irqbalance/irqbalance812.sock", "s", 0o755, None),
        ("/run/mdadm", "d", 0o710, None),
        ("/run/udisks2", "d", 0o700, None),
        ("/run/tuned/tuned.sock", "s", 0o600, None),
        ("/run/tuned/save.pickle", "f", 0o600, "digest"),
        ("/run/faillock/root", "f", 0o600, "digest"),
        ("/var/lib/rsyslog/imjournal.state", "f", 0o600, "digest"),
        ("/var/lib/systemd/coredump/core.sh.0.5c1.812.1764442800000000.zst", "f", 0o640, "digest"),
        ("/var/lib/dnf/repos/baseos-61c0a1b2/countme", "f", 0o644, "digest"),
        ("/var/cache/man/index.db", "f", 0o644, "digest"),
        ("/var/lib/unbound/root.key", "f", 0o644, "digest"),
        ("/var/lib/fwupd/pending.db", "f", 0o644, "digest"),
        ("/var/lib/fwupd/metadata/lvfs/firmware.xml.zst", "f", 0o644, "digest"),
        ("/var/cache/fwupd/metainfo.xmlb", "f", 0o644, "digest"),
        ("/var/lib/plocate/plocate.db", "f", 0o640, "digest"),
        ("/var/lib/wtmpdb/wtmp.db", "f", 0o644, "digest"),
        ("/var/lib/lastlog/lastlog2.db", "f", 0o644, "digest"),
        ("/var/lib/udisks2/mounted-fs", "f", 0o644, "digest"),
        ("/var/spool/mail/root", "f", 0o660, "digest"),
    ],
)  # fmt: skip
def test_what_daemons_keep_may_vary(path: str, type_: str, mode: int, value: str | None) -> None:
    one = fact(path, type_, mode, value)
    assert passes(one)
    if type_ == "f":
        assert not passes(one._replace(mode=mode | 0o111)), "a program"
        assert not passes(one._replace(mode=mode | 0o4000)), "setuid"
        assert not passes(one._replace(mode=mode | 0o002)), "for others to write"
        assert not passes(one._replace(xattrs=(("security.capability", "x"),)))
        assert not passes(one._replace(type="l", value="/etc/shadow")), "a link elsewhere"
    if type_ == "d":
        assert not passes(one._replace(mode=(mode & ~0o1000) | 0o777)), "open to all"
        assert not passes(one._replace(type="l", value="/usr")), "a link in its place"


@pytest.mark.parametrize(
    "target",
    ["/etc/shadow", "/dev/../etc/shadow", "../../../etc/shadow", "/run/evil",
     "../../systemd/../evil/io.systemd.X", "/dev/snd/../../etc/passwd", "/dev/.."],
)  # fmt: skip
def test_a_link_leads_to_a_device_or_a_socket(target: str) -> None:
    for path in (
        "/run/varlink/registry/io.systemd.Journal",
        "/run/udev/static_node-tags/uaccess/x",
    ):
        assert not passes(fact(path, "l", 0o777, target))


def test_one_link_of_the_logs_leads_out_of_them() -> None:
    readme = fact("/var/log/README", "l", 0o777, "../../usr/share/doc/systemd/README.logs")
    assert passes(readme)
    assert not passes(readme._replace(path="/var/log/cron"))
    assert not passes(readme._replace(path="/run/systemd/units/README"))
    assert not passes(readme._replace(value="../../etc/shadow"))
    assert not passes(readme._replace(uid=1000))


def test_an_inaccessible_node_is_for_nobody() -> None:
    assert not passes(fact("/run/systemd/inaccessible/chr", "c", 0o666, "1:1"))


def test_its_places_are_fixed() -> None:
    for place in ("/etc", "/usr", "/var", "/var/lib", "/root", "/run/user/0"):
        with pytest.raises(ValueError, match="is not a place for"):
            VolatileRule(place, VolatileKind.RUNTIME)


def test_what_a_boot_writes_anew_is_pinned() -> None:
    assert runtime.is_generated("/run/systemd/generator/-.mount")
    assert runtime.is_generated("/run/systemd/generator.late")
    assert not runtime.is_generated("/run/systemd/generators/evil")
    assert not runtime.is_generated("/run/systemd/system/evil.service")
