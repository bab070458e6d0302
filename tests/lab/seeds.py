# SPDX-License-Identifier: GPL-2.0-or-later
"""Which Debian packages the lab's distribution is made of, and its names for them."""

from __future__ import annotations

# Programs of the machine itself that make the lab (beyond python3, git, make).
TOOLS = (
    "rpm",
    "dnf",
    "dnf-plugins-core",
    "createrepo-c",
    "gnupg",
    "openssh-server",
    "openssh-client",
    "dpkg-dev",
    "util-linux",
    "iproute2",
    "libcap2-bin",
    "python3-venv",
)

BASE = (
    "base-files",
    "base-passwd",
    "bash",
    "bsdextrautils",
    "bzip2",
    "ca-certificates",
    "coreutils",
    "cpio",
    "curl",
    "debianutils",
    "diffutils",
    "file",
    "findutils",
    "gawk",
    "grep",
    "gzip",
    "hostname",
    "iproute2",
    "iputils-ping",
    "libc-bin",
    "libcap2-bin",
    "libpam-modules",
    "libpam-runtime",
    "login",
    "mawk",
    "mount",
    "ncurses-base",
    "openssh-server",
    "openssh-sftp-server",
    "passwd",
    "perl-base",
    "procps",
    "psmisc",
    "sed",
    "tar",
    "tzdata",
    "unzip",
    "util-linux",
    "xz-utils",
    "zstd",
)

PACKAGING = (
    "createrepo-c",
    "debugedit",
    "dnf",
    "dnf-plugins-core",
    "dwz",
    "elfutils",
    "python3",
    "python3-dnf",
    "python3-rpm",
    "rpm",
    "rpm-common",
    "rpm2cpio",
)

DEVELOPMENT = (
    "autoconf",
    "automake",
    "bison",
    "flex",
    "g++",
    "gcc",
    "gettext",
    "libc6-dev",
    "libtool",
    "m4",
    "make",
    "patch",
    "perl",
    "pkg-config",
    "python3-dev",
    "python3-setuptools",
    "python3-wheel",
    "texinfo",
    "zlib1g-dev",
)

# Packed without being installed on this machine: see debs.
# ifupdown: cloud-init wants something that could configure a network, though it is told not to.
FETCHED = ("cloud-init", "ifupdown")

# What cloud-init imports, and finds users with.
CLOUD = (
    "python3-configobj",
    "python3-jinja2",
    "python3-jsonpatch",
    "python3-jsonschema",
    "python3-oauthlib",
    "python3-requests",
    "python3-yaml",
)

SEEDS = tuple(sorted({*BASE, *PACKAGING, *DEVELOPMENT, *CLOUD, *FETCHED}))

# What a controller has besides: make demo runs on it, and mock-cloud's RPMs are made there.
CONTROLLER = ("git", "gnupg", "openssh-client", "python3-venv")

# Needed by Debian's maintainer scripts only, which no RPM here carries.
NOT_PACKED = frozenset(
    {
        "adduser",
        "dash",
        "debconf",
        "debconf-2.0",
        "dpkg",
        "init-system-helpers",
        "libjs-sphinxdoc",
        "install-info",
        "lsb-base",
        "media-types",
        "runit-helper",
        "systemd-standalone-sysusers",
        "systemd-sysusers",
        "sysvinit-utils",
        "ucf",
    }
)

# What Debian merely recommends, and RPM distributions' compiler requires.
ALSO_REQUIRED = {"gcc": ("libc6-dev",)}

# Dependencies that only part of a package has, and that would make every node carry perl.
# cloud-init: for disks, DHCP and clouds that the lab has none of.
NOT_REQUIRED = {
    "rpm": frozenset({"perl"}),
    "cloud-init": frozenset(
        {
            "eject",
            "fdisk",
            "gdisk",
            "isc-dhcp-client",
            "locales",
            "lsb-release",
            "python3-netifaces",
            "python3-serial",
        }
    ),
}

# What Debian leaves out because it is essential there, hence always installed.
REQUIRES = {"libc6": ("libc-bin",), "rpm": ("bash", "coreutils", "lab-rpm-config")}

# Names that specs and configurations of RPM distributions use.
PROVIDES: dict[str, tuple[str, ...]] = {
    "bash": ("/bin/sh",),
    "g++": ("gcc-c++",),
    "iproute2": ("iproute",),
    "libc6": ("glibc", "glibc-common", "rtld(GNU_HASH)"),
    "libc6-dev": ("glibc-devel",),
    "libc-bin": ("glibc-minimal-langpack",),
    "login": ("util-linux-user",),
    "passwd": ("shadow-utils",),
    "perl": ("perl-interpreter",),
    "pkg-config": ("pkgconf-pkg-config", "pkgconfig"),
    "debianutils": ("which",),
    "python3-dev": ("python3-devel",),
    "python3-dnf": ("python3-dnf4",),
    "rpm": ("rpm-sign",),
    "xz-utils": ("xz",),
    "zlib1g-dev": ("zlib-devel",),
    "createrepo-c": ("createrepo_c",),
    "dnf5": ("dnf5-plugins",),  # Debian has them in one package
    "gnupg": ("gnupg2",),
    "openssh-client": ("openssh-clients",),
    "procps": ("procps-ng",),
    "iputils-ping": ("iputils",),
}

# What `@build` and `@buildsys-build` install: mock's minimal buildroot.
BUILD_GROUP = (
    "base-files",
    "bash",
    "bzip2",
    "coreutils",
    "cpio",
    "debianutils",
    "diffutils",
    "filesystem",
    "findutils",
    "gawk",
    "grep",
    "gzip",
    "lab-release",
    "lab-rpm-config",
    "make",
    "passwd",
    "patch",
    "rpm-build",
    "sed",
    "tar",
    "unzip",
    "util-linux",
    "xz-utils",
)

# What a node's image is made of; dependencies come by themselves.
NODE = (
    "base-files",
    "bash",
    "ca-certificates",
    "coreutils",
    "createrepo-c",
    "dnf",
    "dnf-plugins-core",
    "filesystem",
    "findutils",
    "grep",
    "gzip",
    "hostname",
    "iproute2",
    "iputils-ping",
    "lab-node",
    "lab-release",
    "lab-rpm-config",
    "login",
    "mount",
    "openssh-server",
    "passwd",
    "procps",
    "python3",
    "rpm",
    "sed",
    "tar",
    "util-linux",
)

# What the stock image of the lab's clouds has besides.
CLOUD_NODE = (*NODE, "cloud-init", "ifupdown", "lab-cloud")

# Packages that release 2 has in a newer build: "old but signed" is real then.
RENEWED = ("bash", "openssh-server", "tar", "zlib1g")
