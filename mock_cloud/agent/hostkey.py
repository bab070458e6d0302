# SPDX-License-Identifier: GPL-2.0-or-later
"""Gives the node's sshd another host key: the one it was born with was readable on the way.

Connections that are open go on under the old key. New ones are answered with the new key as
soon as the listening sshd has started anew, which SIGHUP makes it do (sshd(8)).
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from typing import Final

from mock_cloud.agent.measure import procfs
from mock_cloud.agent.measure.sockets import measure_sockets
from mock_cloud.agent.serve_wire import Failure

_PATH: Final = "/etc/ssh/ssh_host_ed25519_key"
_PRIVATE_HEAD: Final = b"-----BEGIN OPENSSH PRIVATE KEY-----\n"
_PUBLIC_HEAD: Final = "ssh-ed25519 "
_SIZE_MAX: Final = 4096
_LABEL: Final = "security.selinux"


def replace_host_key(private: bytes, public: str) -> None:
    """Put both halves in their place, one after the other, and have sshd read them. Failure.

    `private` is an OpenSSH private key file, `public` the line of a ``.pub`` file. That the key
    works is for the controller to see, over a connection of its own.
    """
    line = public.removesuffix("\n")
    if not private.startswith(_PRIVATE_HEAD) or len(private) > _SIZE_MAX:
        raise Failure("bad-request", "not an OpenSSH private key")
    if line == public or not line.startswith(_PUBLIC_HEAD) or not line.isprintable():
        raise Failure("bad-request", "not a line with an ed25519 public key")
    listener = _find_listener()
    _replace(_PATH, private, 0o600)
    _replace(f"{_PATH}.pub", public.encode()[:_SIZE_MAX], 0o644)
    if listener is not None:
        os.kill(listener, signal.SIGHUP)


def _replace(path: str, data: bytes, mode: int) -> None:
    """Atomically, root's, labelled as what was there. OSError."""
    new = f"{path}.mock-cloud"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            _copy_label(path, stream.fileno())
            os.fchmod(stream.fileno(), mode)
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(new, path)
    except OSError:
        os.unlink(new)
        raise


def _copy_label(source: str, descriptor: int) -> None:
    """A file made by us would have the directory's label, which sshd's policy may not allow."""
    try:
        os.setxattr(descriptor, _LABEL, os.getxattr(source, _LABEL))
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.ENOTSUP, errno.ENOENT):
            raise


def _find_listener() -> int | None:
    """The sshd that listens, of those we descend from; None where systemd listens for it.

    Then every connection has an sshd of its own, which reads its keys anew.
    """
    listening = {row[3] for row in measure_sockets() if str(row[0]).startswith("tcp")}
    pid = os.getppid()
    while pid:
        if pid in listening:
            is_sshd = os.path.basename(os.readlink(f"/proc/{pid}/exe")).startswith("sshd")
            return pid if is_sshd else None
        pid = procfs.parse_status(procfs.read_bounded(f"/proc/{pid}/status")).ppid
    return None
