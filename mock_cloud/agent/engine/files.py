# SPDX-License-Identifier: GPL-2.0-or-later
"""``--copyin`` and ``--copyout``: files into and out of the chroot, as tar archives.

Both work in a child that is chrooted, so no name and no link can mean a file of the node.
"""

from __future__ import annotations

import glob
import io
import os
import tarfile
from typing import Final

from mock_cloud.agent.engine import processes
from mock_cloud.agent.engine.buildroot import Buildroot
from mock_cloud.agent.engine.context import Job
from mock_cloud.agent.engine.errors import UsageError

COPYOUT_NAME: Final = "copyout.tar"


def copy_in(job: Job, buildroot: Buildroot) -> None:
    """Unpack the input of role copyin at the request's one argument, with mock's cp rules."""
    archives = job.inputs_of("copyin")
    if len(archives) != 1 or len(job.request.args) != 1:
        raise UsageError("Must have source and destinations for copyin")
    destination = job.request.args[0]
    owner = (job.config.chrootuid, job.config.chrootgid, job.config.chroothome)
    shown = buildroot.chroot.path(destination)
    destination = os.path.join("/", destination)
    archive = job.take_input(archives[0])
    place = processes.Place(root=buildroot.chroot.root)
    with open(archive, "rb") as stream:
        names = processes.call(place, lambda: _names(stream, destination, shown))
    for name in names.decode(errors="surrogateescape").split("\0"):
        job.logs.info(f"copying {job.shown(name)} to {shown}")
    with open(archive, "rb") as stream:
        taken = processes.call(place, lambda: _unpack(stream, destination, owner))
    if taken:
        path = buildroot.chroot.path(taken.decode(errors="surrogateescape"))
        raise UsageError(f"Destination {path} already exists!")


def _names(stream: io.BufferedReader, destination: str, shown: str) -> bytes:
    """The archive's top-level names, in its order."""
    with tarfile.open(fileobj=stream, mode="r:") as archive:
        names = list(dict.fromkeys(_parts(member.name)[0] for member in archive))
    if len(names) > 1 and not os.path.isdir(destination):
        raise UsageError(f"multiple source files and {shown} is not a directory!")
    return "\0".join(names).encode(errors="surrogateescape")


def _unpack(stream: io.BufferedReader, destination: str, owner: tuple[int, int, str]) -> bytes:
    """Empty, or the path of what is there already where a directory would go."""
    uid, gid, home = owner
    into = os.path.isdir(destination)
    with tarfile.open(fileobj=stream, mode="r:") as archive:
        for member in archive.getmembers():
            first, *rest = _parts(member.name)
            target = os.path.join(destination, *([first] if into else []), *rest)
            if not rest and member.isdir() and os.path.lexists(target):
                return target.encode(errors="surrogateescape")
            _place_member(archive, member, target)
            if target.startswith(home + "/"):
                os.chown(target, uid, gid, follow_symlinks=False)
    return b""


def _parts(name: str) -> list[str]:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if not parts or ".." in parts or name.startswith("/"):
        raise UsageError(f"{name!r} is not a name within the archive")
    return parts


def _place_member(archive: tarfile.TarFile, member: tarfile.TarInfo, target: str) -> None:
    """Directories, files and symbolic links; nothing else is copied in, as with mock."""
    if member.isdir():
        os.makedirs(target, exist_ok=True)
    elif member.issym():
        os.symlink(member.linkname, target)
        return
    elif member.isreg():
        source = archive.extractfile(member)
        assert source is not None  # noqa: S101 (for mypy: a regular member)
        with open(target, "wb") as writer:
            while block := source.read(1 << 20):
                writer.write(block)
    else:
        raise UsageError(f"{member.name}: only files, directories and links can be copied in")
    os.chmod(target, member.mode & 0o7777)
    os.utime(target, (member.mtime, member.mtime))


def copy_out(job: Job, buildroot: Buildroot) -> None:
    """Pack what the request's arguments (names or patterns) match into results/copyout.tar.

    Top-level names are the matches' own; read as the build user, as mock does.
    """
    if not job.request.args:
        raise UsageError("Must have source and destinations for copyout")
    patterns, home = job.request.args, job.config.chroothome
    path = os.path.join(job.results, COPYOUT_NAME)
    with open(path, "wb") as stream:
        place = buildroot.builder(networking=True)
        names = processes.call(place, lambda: _pack(stream, patterns, home))
    for name in names.decode(errors="surrogateescape").split("\0"):
        job.logs.info(f"copying {buildroot.chroot.path(name)} to {job.shown_results}")


def _pack(stream: io.BufferedWriter, patterns: list[str], home: str) -> bytes:
    found = []
    for pattern in patterns:
        expanded = home + pattern[1:] if pattern == "~" or pattern.startswith("~/") else pattern
        matches = sorted(glob.glob(os.path.join("/", expanded)))
        if not matches:
            raise UsageError(f"{pattern} not found")
        found += matches
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for path in found:
            archive.add(path, arcname=os.path.basename(path.rstrip("/")))
    stream.flush()
    return "\0".join(found).encode(errors="surrogateescape")
