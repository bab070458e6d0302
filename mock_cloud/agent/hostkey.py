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

from mock_cloud.agent.serve_wire import Failure
from mock_cloud.agent.sshd import find_listener

_PATH: Final = "/etc/ssh/ssh_host_ed25519_key"
_PRIVATE_HEAD: Final = b"-----BEGIN OPENSSH PRIVATE KEY-----\n"
_PUBLIC_HEAD: Final = "ssh-ed25519 "
_SIZE_MAX: Final = 4096
_LABEL: Final = "security.selinux"


def install_host_key(private: bytes, public: str) -> None:
    """Put both halves in their place, one after the other, and have sshd read them. Failure.

    `private` is an OpenSSH private key file, `public` the line of a ``.pub`` file. That the key
    works is for the controller to see, over a connection of its own.
    """
    line = public.removesuffix("\n")
    if not private.startswith(_PRIVATE_HEAD) or len(private) > _SIZE_MAX:
        raise Failure("bad-request", "not an OpenSSH private key")
    if line == public or not line.startswith(_PUBLIC_HEAD) or not line.isprintable():
        raise Failure("bad-request", "not a line with an ed25519 public key")
    listener = find_listener()
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
