# SPDX-License-Identifier: GPL-2.0-or-later
"""``--copyin`` and ``--copyout``: files into and out of the chroot, as archives.

Both work in a child that is chrooted, so no name and no link can mean a file of the node.
"""

from __future__ import annotations

import errno
import glob
import json
import os
import time
from dataclasses import replace
from typing import IO, Final

from mock_cloud.agent.engine import processes
from mock_cloud.agent.engine.buildroot import Buildroot
from mock_cloud.agent.engine.context import Job
from mock_cloud.agent.engine.errors import EngineError, ModeUsageError
from mock_cloud.wire.job_request import COPYOUT_NAME
from mock_cloud.wire.tree_archive import Kind, Reader, Writer
from mock_cloud.wire.tree_unpack import DIRECTORY_FLAGS, Unpacker

_SHOWN_MAX: Final = 10


def copy_in(job: Job, buildroot: Buildroot) -> None:
    """Unpack the input of role copyin at the request's one argument, with mock's cp rules.

    UsageError; EngineError (1) with the path where the chroot has no place for it.
    """
    archives = job.inputs_of("copyin")
    if len(archives) != 1 or len(job.request.args) != 1:
        raise ModeUsageError("Must have source and destinations for copyin")
    config, destination = job.config, os.path.join("/", job.request.args[0])
    shown = buildroot.chroot.path(destination)
    at_home = os.path.join(os.path.normpath(destination), "").startswith(config.chroothome + "/")
    unpacker = Unpacker(
        mode_mask=0o7777,
        directory_bits=0,
        owners=((config.chrootuid, config.chrootgid) if at_home else (0, 0),),
    )
    archive = job.take_input(archives[0])
    place = processes.Place(root=buildroot.chroot.root)
    with open(archive, "rb") as stream:
        names = processes.call(place, lambda: _names(stream, destination, shown))
    for name in names.decode(errors="surrogateescape").split("\0"):
        job.logs.info(f"copying {job.shown(name)} to {shown}")
    try:
        with open(archive, "rb") as stream:
            taken = processes.call(place, lambda: _unpack(stream, destination, unpacker))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        path = buildroot.chroot.path(error.filename or destination)
        raise EngineError(f"[Errno {error.errno}] {error.strerror}: {path!r}") from error
    if taken:
        path = buildroot.chroot.path(taken.decode(errors="surrogateescape"))
        raise ModeUsageError(f"Destination {path} already exists!")


def _names(stream: IO[bytes], destination: str, shown: str) -> bytes:
    """The archive's top-level names, in its order."""
    names, depth = [], 0
    for member in Reader(stream):
        if depth == 0:
            names.append(member.name)
        depth += {Kind.DIRECTORY: 1, Kind.UP: -1}.get(member.kind, 0)
    if len(names) > 1 and not os.path.isdir(destination):
        raise ModeUsageError(f"multiple source files and {shown} is not a directory!")
    return "\0".join(names).encode(errors="surrogateescape")


def _unpack(stream: IO[bytes], destination: str, unpacker: Unpacker) -> bytes:
    """Empty, or the path of what is there already where a directory would go."""
    reader = Reader(stream)
    members = iter(reader)
    for member in members:
        into = os.path.isdir(destination)
        target = os.path.join(destination, member.name) if into else destination
        if member.kind is Kind.DIRECTORY:
            if os.path.lexists(target):
                return target.encode(errors="surrogateescape")
            os.makedirs(target)
            descriptor = os.open(target, DIRECTORY_FLAGS)
            try:
                unpacker.fill(reader, members, descriptor)
                unpacker.set_facts(descriptor, member)
            finally:
                os.close(descriptor)
        else:  # a file: links were followed where they were packed
            with open(target, "wb") as writer:
                for chunk in reader.chunks():
                    writer.write(chunk)
                writer.flush()
                now = replace(member.facts, mtime_ns=time.time_ns())  # as shutil.copy has it
                unpacker.set_facts(writer.fileno(), replace(member, facts=now))
    return b""


def copy_out(job: Job, buildroot: Buildroot) -> None:
    """Pack what the request's arguments (names or patterns) match into results/copyout.tree.

    Top-level names are the matches' own; read as the build user, as mock does. What cannot be
    copied (a pipe, a file of root's) stays, and EngineError (1) says so once the rest is packed.
    """
    if not job.request.args:
        raise ModeUsageError("Must have source and destinations for copyout")
    patterns, home = job.request.args, job.config.chroothome
    path = os.path.join(job.results, COPYOUT_NAME)
    with open(path, "wb") as stream:
        place = buildroot.builder(networking=True)
        answer = processes.call(place, lambda: _pack(stream, patterns, home))
    names, problems = json.loads(answer)
    for name in names:
        job.logs.info(f"copying {buildroot.chroot.path(name)} to {job.shown_results}")
    if problems:
        shown = [f"{buildroot.chroot.path(path)!r}: {why}" for path, why, _ in problems]
        more = f", and {len(shown) - _SHOWN_MAX} more" if len(shown) > _SHOWN_MAX else ""
        raise EngineError(f"not copied: {', '.join(shown[:_SHOWN_MAX])}{more}")


def _pack(stream: IO[bytes], patterns: list[str], home: str) -> bytes:
    """JSON of the matches' paths and of what could not be packed."""
    found = []
    for pattern in patterns:
        expanded = home + pattern[1:] if pattern == "~" or pattern.startswith("~/") else pattern
        matches = sorted(glob.glob(os.path.join("/", expanded)))
        if not matches:
            raise ModeUsageError(f"{pattern} not found")
        found += matches
    archive = Writer(stream)
    for path in found:
        name = os.path.basename(os.path.normpath(path)) or "root"
        # mock copies the directory that a link leads to, if it was named itself.
        archive.add(name, os.path.realpath(path) if os.path.isdir(path) else path)
    archive.close()
    return json.dumps([found, archive.problems]).encode()
