# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab's own packages: filesystem, release, rpm's macros, the node's sshd."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mock_cloud.process import run
from tests.lab.rpmspec import Entry, Package, directory, file, link

# The last two are directories in Debian's base-files, until its maintainer script has run.
TOP_LINKS = frozenset(
    {"/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/var/run", "/var/lock"}
)

_MODES = {
    "/root": 0o700,
    "/tmp": 0o1777,
    "/var/tmp": 0o1777,
    "/run/lock": 0o1777,
    "/proc": 0o555,
    "/sys": 0o555,
}
DIRECTORIES = frozenset(
    """
    /boot /dev /etc /etc/alternatives /etc/default /etc/opt /etc/pki /etc/profile.d /etc/rpm
    /etc/skel /etc/ssl /home /media /mnt /opt /proc /root /run /run/lock /srv /sys /tmp
    /usr /usr/bin /usr/games /usr/include /usr/lib /usr/lib32 /usr/lib64 /usr/libx32 /usr/libexec
    /usr/local /usr/local/bin /usr/local/etc /usr/local/games /usr/local/include /usr/local/lib
    /usr/local/sbin /usr/local/share /usr/local/src /usr/sbin /usr/share /usr/share/doc
    /usr/share/info /usr/share/locale /usr/share/man /usr/share/man/man1 /usr/share/misc /usr/src
    /var /var/backups /var/cache /var/lib /var/lib/misc /var/lib/rpm /var/local /var/log
    /var/mail /var/opt /var/spool /var/tmp /usr/lib/rpm /usr/lib/rpm/macros.d /var/cache/dnf
    """.split()  # noqa: SIM905 - readable as it is
)

_BASE_PASSWD = Path("/usr/share/base-passwd")
# Users and groups that maintainer scripts make with the next free id; here they are fixed.
_USERS = "sshd:x:101:65534::/run/sshd:/usr/sbin/nologin\n"
_LOCAL_GROUPS = "_ssh:x:101:\nmessagebus:x:102:\nssl-cert:x:103:\n"

_PAM = {
    "auth": "auth required pam_unix.so\n",
    "account": "account required pam_unix.so\n",
    "password": "password required pam_unix.so obscure yescrypt\n",
    "session": "session required pam_unix.so\n",
    "session-noninteractive": "session required pam_unix.so\n",
}


def _base_files() -> tuple[Entry, ...]:
    share = Path("/usr/share/base-files")
    copies = {
        "/etc/profile": "profile",
        "/etc/nsswitch.conf": "nsswitch.conf",
        "/root/.bashrc": "dot.bashrc",
        "/root/.profile": "dot.profile",
    }
    return tuple(
        file(place, (share / name).read_text(), flag="%config(noreplace)")
        for place, name in copies.items()
        if (share / name).is_file()
    )


_FIXED: dict[str, tuple[Entry, ...]] = {
    "bash": (link("/usr/bin/sh", "bash"),),  # as on RPM distributions; Debian's sh is dash
    "libc-bin": (file("/etc/ld.so.cache", "", flag="%ghost"),),
    "openssh-server": (directory("/run/sshd"),),
}


def extra_files(name: str, *, has_systemd: bool = False) -> tuple[Entry, ...]:
    """What the maintainer scripts of package `name` would leave behind."""
    if name == "base-files":
        return _base_files()
    if name == "libpam-runtime":
        return tuple(
            file(f"/etc/pam.d/common-{kind}", text, flag="%config(noreplace)")
            for kind, text in (_machine_pam() if has_systemd else _PAM).items()
        )
    if name == "chrony":  # a copy of its example, made by ucf(1)
        text = Path("/etc/chrony/chrony.conf").read_text()
        return (file("/etc/chrony/chrony.conf", text, flag="%config(noreplace)"),)
    return _FIXED.get(name, ())


def _machine_pam() -> dict[str, str]:
    """As pam-auth-update(8) wrote them here, systemd's sessions included."""
    return {kind: Path(f"/etc/pam.d/common-{kind}").read_text() for kind in _PAM}


@dataclass(frozen=True, slots=True)
class Accounts:
    """The texts of /etc/passwd and /etc/group."""

    passwd: str
    group: str


def fixed_accounts() -> Accounts:
    """Those that every Debian has, and what the packages of a node without systemd need."""
    passwd = (_BASE_PASSWD / "passwd.master").read_text().replace("root:*:", "root:x:") + _USERS
    group = (_BASE_PASSWD / "group.master").read_text().replace(":*:", ":x:") + _LOCAL_GROUPS
    return Accounts(passwd.replace(":*:", ":x:"), group)


def machine_accounts() -> Accounts:
    """Those of this machine, where its packages' scripts and sysusers.d(5) made them."""
    return Accounts(Path("/etc/passwd").read_text(), Path("/etc/group").read_text())


def _account_files(accounts: Accounts) -> tuple[Entry, ...]:
    passwd, group = accounts.passwd, accounts.group
    # "*" and not "!": sshd without PAM takes "!" for a locked account, key or not.
    shadow = "".join(f"{line.split(':')[0]}:*:19000:0:99999:7:::\n" for line in passwd.splitlines())
    gshadow = "".join(f"{line.split(':')[0]}:*::\n" for line in group.splitlines())
    keep = "%config(noreplace)"
    return (
        file("/etc/passwd", passwd, flag=keep),
        file("/etc/group", group, flag=keep),
        file("/etc/shadow", shadow, 0o600, flag=keep),
        file("/etc/gshadow", gshadow, 0o600, flag=keep),
        file("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n", flag=keep),
        file("/etc/shells", "/bin/sh\n/bin/bash\n/usr/bin/bash\n", flag=keep),
        file("/etc/subuid", "", flag=keep),
        file("/etc/subgid", "", flag=keep),
    )


def filesystem(machine: str, accounts: Accounts) -> Package:
    """Directories, the merged-/usr links and the account files; everything else requires it."""
    entries = [directory(path, _MODES.get(path, 0o755)) for path in sorted(DIRECTORIES)]
    entries += [
        link(path, f"usr{path}")
        for path in sorted(TOP_LINKS)
        if path in ("/bin", "/sbin", "/lib", "/lib64")
    ]
    entries += [link("/var/run", "/run"), link("/var/lock", "/run/lock")]
    entries += _account_files(accounts)
    summary = "Directories, links and accounts that everything else stands on"
    return Package("filesystem", "12", "1.lab1", machine, summary, tuple(entries))


def release(number: int) -> Package:
    """os-release and the %dist macro of one release of the lab's distribution."""
    text = (
        f'NAME="Lab Linux"\nVERSION="{number}"\nID=lab\nVERSION_ID={number}\n'
        f'PRETTY_NAME="Lab Linux {number}"\nHOME_URL="https://lab.invalid/"\n'
    )
    entries = (
        file("/usr/lib/os-release", text),
        link("/etc/os-release", "../usr/lib/os-release"),
        file("/etc/system-release", f"Lab Linux release {number}\n"),
        file("/etc/issue", f"Lab Linux release {number}\n", flag="%config(noreplace)"),
        file("/usr/lib/rpm/macros.d/macros.dist", f"%dist .lab{number}\n"),
    )
    provides = (f"system-release = {number}", f"system-release({number})")
    return Package(
        "lab-release",
        str(number),
        "1",
        "noarch",
        "Release files of the lab",
        entries,
        provides=provides,
        requires=("filesystem",),
    )


# Before this rpm a distribution's macros add the packages of debugging information to each spec.
_FINDS_DEBUG_INFO = (4, 20)
_DEBUG_PACKAGE = """\
%install %{?_enable_debug_packages:%{debug_package}}\\
%%install\\
%{nil}
"""


def rpm_config(triplet: str, requires: tuple[str, ...] = ()) -> Package:
    """Debian's rpm made to behave as on RPM distributions; `triplet` is the multiarch name.

    `requires` are other packages of macros.
    """
    macros = f"""\
# Debian's own rpm keeps its database in the caller's home directory.
%_dbpath /var/lib/rpm
%_lib lib/{triplet}
%_libdir %{{_prefix}}/%{{_lib}}
%python3_sitelib %{{_prefix}}/lib/python3/dist-packages
%_build_id_links compat
%_enable_debug_packages 1
%build_ldflags -Wl,-z,relro -Wl,-z,now
"""
    words = run(["rpm", "--version"], timeout_s=10).decode().split()[-1].split(".")
    if tuple(map(int, words[:2])) < _FINDS_DEBUG_INFO:
        macros += _DEBUG_PACKAGE
    entries = (file("/usr/lib/rpm/macros.d/macros.lab", macros),)
    return Package(
        "lab-rpm-config", "1", "1.lab1", "noarch", "Macros that specs expect", entries,
        requires=("filesystem", "rpm-common", *requires),
        provides=("redhat-rpm-config", "system-rpm-config"),
    )  # fmt: skip


def rpm_build() -> Package:
    """A name for what Debian has inside rpm: rpmbuild with all the programs it runs."""
    requires = """binutils bzip2 cpio debugedit diffutils elfutils file findutils gawk grep gzip
        lab-rpm-config make patch rpm sed tar unzip xz-utils zstd""".split()  # noqa: SIM905
    return Package(
        "rpm-build", "4", "1.lab1", "noarch", "rpmbuild and what it runs", (),
        requires=tuple(requires),
    )  # fmt: skip


SSHD_CONFIG = """\
HostKey /etc/ssh/ssh_host_ed25519_key
PubkeyAuthentication yes
AuthenticationMethods publickey
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
AuthorizedKeysFile /root/.ssh/authorized_keys
UsePAM no
X11Forwarding no
PrintMotd no
PrintLastLog no
PidFile none
LogLevel VERBOSE
UseDNS no
MaxSessions 64
MaxStartups 100
Subsystem sftp internal-sftp
"""


def node(sshd_config: str) -> Package:
    """What turns a tree into a node: sshd's configuration, and directories."""
    entries = (
        file("/etc/ssh/sshd_config", sshd_config, 0o600),
        directory("/root/.ssh", 0o700),
        directory("/etc/yum.repos.d"),
        directory("/var/lib/mock"),
    )
    return Package(
        "lab-node", "1", "1.lab1", "noarch", "A node's sshd configuration", entries,
        requires=("filesystem", "openssh-server"),
    )  # fmt: skip


def comps_xml(names: Iterable[str]) -> str:
    """`names` as the groups `build` and `buildsys-build`, as mock's configurations name them."""
    packages = "".join(f'<packagereq type="mandatory">{name}</packagereq>' for name in names)
    groups = "".join(
        f"<group><id>{name}</id><name>{name}</name><description>Minimal buildroot</description>"
        "<default>false</default><uservisible>false</uservisible>"
        f"<packagelist>{packages}</packagelist></group>"
        for name in ("build", "buildsys-build")
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<!DOCTYPE comps PUBLIC "-//Red Hat, Inc.//DTD Comps info//EN" "comps.dtd">\n'
        f"<comps>{groups}</comps>\n"
    )
