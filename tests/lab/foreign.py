# SPDX-License-Identifier: GPL-2.0-or-later
"""A lab of another architecture: of Debian's packages of it, emulated by qemu.

qemu-user interprets a program and asks this machine's kernel for everything else, so a node of
such a lab has its own programs and our kernel. The emulator is a package of the lab, since the
kernel looks for it in the root of whoever starts a program.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from mock_cloud.process import CommandFailed, run
from mock_cloud.toolkit.machines import find_machine
from tests.lab import debs, seeds
from tests.lab.debian import DebianPackage
from tests.lab.layout import Lab, LabError, stamp_matches
from tests.lab.rpmspec import Entry, Kind, Package, directory, link

EMULATOR = "lab-emulator"
_INTERPRETERS = "/usr/libexec/qemu-binfmt"
_FORMATS = Path("/usr/lib/binfmt.d")
_APT_TIMEOUT_S = 900.0

_APT_CONF = """\
Dir::State "{place}/state";
Dir::State::status "{place}/status";
Dir::Cache "{place}/cache";
APT::Architecture "{arch}";
APT::Architectures {{ "{arch}"; }};
APT::Sandbox::User "root";
Acquire::Languages "none";
"""


def emulator_path(arch: str) -> str:
    """Where qemu's program for `arch` lies, here and in every tree of its lab."""
    return f"/usr/bin/qemu-{arch}-static"


def find_missing(arch: str) -> str | None:
    """What this machine lacks to emulate `arch`, or None."""
    for path in (emulator_path(arch), f"{_FORMATS}/qemu-{arch}.conf"):
        if not Path(path).is_file():
            return f"{path} (qemu-user-static)"
    if "binfmt_misc" not in Path("/proc/filesystems").read_text():
        return "a kernel with binfmt_misc"
    return None


def emulator(arch: str) -> Package:
    """The package of the emulator, a program of this machine's architecture."""
    program = emulator_path(arch)
    entries = (
        Entry(program, Kind.FILE, 0o755, source=Path(program).resolve()),
        directory(_INTERPRETERS),
        # By this ending of its name qemu knows how the kernel passes words on (flag P).
        link(f"{_INTERPRETERS}/{arch}-binfmt-P", f"../..{program.removeprefix('/usr')}"),
    )
    return Package(
        EMULATOR, "1", "1.lab1", "noarch", f"qemu's emulation of {arch}", entries,
        requires=("filesystem",),
    )  # fmt: skip


@contextmanager
def emulated(arch: str) -> Iterator[None]:
    """Programs of `arch` start on this machine, in every root that has the emulator.

    The kernel forgets the format with the last mount of binfmt_misc; ours is in the namespace of a
    process that ends with this block, or with us. Others may have one: so it is unregistered too.
    """
    missing = find_missing(arch)
    if missing:
        raise LabError(f"cannot emulate {arch}: needs {missing}")
    rule = (_FORMATS / f"qemu-{arch}.conf").read_text().strip()
    fields = rule.split(":")
    # Without the flag F: the emulator of the program's root, not this machine's.
    fields[1], fields[-1] = f"lab-{arch}-{os.getpid()}", "OP"
    with TemporaryDirectory(prefix="lab-binfmt-") as place:
        script = (
            'mount -t binfmt_misc binfmt_misc "$0" && printf %s "$1" > "$0/register"'
            ' && echo ready && read -r _; echo -1 > "$0/$2"'
        )
        argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
        holder = subprocess.Popen(
            [*argv, place, ":".join(fields), fields[1]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            assert holder.stdout is not None
            if holder.stdout.readline() != b"ready\n":
                raise LabError("the kernel takes no format in binfmt_misc", hint="run as root")
            yield
        finally:
            holder.communicate(timeout=30)


def fetch(lab: Lab) -> dict[str, DebianPackage]:
    """The seeds and all they need, for `lab.arch`; downloaded unless the lab has them.

    apt fetches and checks them with a state of its own. `content` is not unpacked yet.
    """
    place = lab.root / "debs"
    wanted = hashlib.sha256(" ".join(seeds.SEEDS).encode()).hexdigest()
    if not stamp_matches(place / "key", wanted):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        with TemporaryDirectory(prefix="lab-apt-") as name:
            _download(Path(name), find_machine(lab.arch).debian)
            for archive in Path(name, "cache/archives").glob("*.deb"):
                shutil.move(archive, place)
        (place / "key").write_text(wanted)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        archives = sorted(place.glob("*.deb"))
        found = pool.map(lambda archive: debs.read(lab, archive), archives)
        return {package.name: package for package in found}


def _download(place: Path, arch: str) -> None:
    for directory_name in ("state/lists/partial", "cache/archives/partial"):
        (place / directory_name).mkdir(parents=True)
    (place / "status").touch()
    (place / "apt.conf").write_text(_APT_CONF.format(place=place, arch=arch))
    env = {"APT_CONFIG": str(place / "apt.conf"), **_proxies()}
    try:
        run(["apt-get", "-qq", "update"], timeout_s=_APT_TIMEOUT_S, extra_env=env)
        argv = ["apt-get", "-qq", "-y", "--download-only", "--no-install-recommends", "install"]
        run([*argv, *seeds.SEEDS], timeout_s=_APT_TIMEOUT_S, extra_env=env)
    except CommandFailed as error:
        raise LabError(
            f"no packages of {arch}: {error}", hint="does apt's archive have this architecture?"
        ) from error


def _proxies() -> dict[str, str]:
    names = ("http_proxy", "https_proxy", "no_proxy")
    return {name: os.environ[name] for name in names if name in os.environ}
