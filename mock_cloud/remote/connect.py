# SPDX-License-Identifier: GPL-2.0-or-later
"""Reaching a node's sshd: pinned host key, our key only, again until it answers."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Sequence
from typing import Final

import paramiko

from mock_cloud.errors import (
    ConfigError,
    ConnectionLost,
    HostKeyMismatch,
    MockCloudError,
    TransportError,
)
from mock_cloud.model import ClientKey, NodeAddress, UserKeys
from mock_cloud.remote.clientkeys import OfferedKey, opened_keys
from mock_cloud.remote.forward import WINDOW_BYTES
from mock_cloud.remote.link import Link, hang_up, shown_host_key
from mock_cloud.remote.proxy import start_proxy
from mock_cloud.remote.unverified import UnverifiedNode
from mock_cloud.remote.wire import Wire, open_wire

_CIPHERS: Final = (
    # AES-GCM first: a build's bytes pass through one Python process, and a cipher with a
    # separate MAC costs it up to 65 % more.
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "aes128-ctr",
    "aes256-ctr",
)
_RSA_SIGNATURES: Final = ("rsa-sha2-512", "rsa-sha2-256")
_ATTEMPT_TIMEOUT_S: Final = 15.0
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 1.0
_REFUSALS: Final = 2
_REFUSED_PAUSE_S: Final = 5.0
"""OpenSSH 9.8 and later owes who is refused 5 s for each time, and from 15 s on turns it away:
PerSourcePenalties in sshd_config(5). So two tries in a row are free, and others are 5 s apart."""
_CHANNEL_TIMEOUT_S: Final = 90.0


_SILENCE_S: Final = 15.0
_PROD_EVERY_S: Final = 5.0
_PIECE_BYTES: Final = 4096


class AuthenticationRefused(TransportError):
    """The node does not take our key; during boot it may not know it yet."""


def connect(
    address: NodeAddress,
    client_key: ClientKey,
    *,
    deadline_s: float,
    silence_timeout_s: float = 30.0,
) -> UnverifiedNode:
    """Connect within `deadline_s` seconds, trying again while the node boots.

    With a Secret, an unencrypted OpenSSH ed25519 private key, no SSH agent and no file of the
    user's is consulted. With UserKeys the machine is one that was there before: keys that it
    refuses are refused for good. Raises HostKeyMismatch at once if another key than the pinned one
    is shown (nothing was sent but the key exchange), TransportError at the deadline with the
    last reason, ConfigError for unusable client keys. `silence_timeout_s` holds for the
    connection's life: a peer silent for longer is lost.
    """
    _quieten_paramiko()

    def reach() -> Link:
        with opened_keys(client_key) as keys:
            boots = not isinstance(client_key, UserKeys)
            return _try_until(address, keys, deadline_s, boots=boots)

    return UnverifiedNode(reach(), silence_timeout_s, reach)


def run_remotely(
    address: NodeAddress,
    client_key: ClientKey,
    command: str,
    *,
    stdin: bytes,
    timeout_s: float,
    output_max_bytes: int,
) -> tuple[bytes, bytes]:
    """Run one command over a connection of its own; what it printed on stdout and stderr.

    It may be run twice: a peer that falls silent is asked once more, by small packets. One that is
    silent for 15 s is lost, though the command may print nothing for longer.
    ConnectionLost if it may have run, also past `timeout_s` or `output_max_bytes`. TransportError
    (AuthenticationRefused, HostKeyMismatch) or ConfigError if it has not.
    """
    _quieten_paramiko()
    within_s = min(timeout_s, _ATTEMPT_TIMEOUT_S)
    try:
        with opened_keys(client_key) as keys:
            link = _attempt(address, keys, within_s)
    except ConfigError:
        with contextlib.suppress(AuthenticationRefused):
            _attempt(address, (), within_s).close()  # another host key is what is said first
        raise
    with contextlib.closing(link), link.watching(_SILENCE_S, timeout_s):
        try:
            return _converse(link, command, stdin, output_max_bytes)
        except ConnectionLost as error:
            if not link.may_be_narrow:
                raise
            lost = error
    try:
        with opened_keys(client_key) as keys:
            link = _attempt(address, keys, within_s)
    except HostKeyMismatch:
        raise
    except TransportError as error:
        raise lost from error  # it may have run
    with contextlib.closing(link), link.watching(_SILENCE_S, timeout_s):
        return _converse(link, command, stdin, output_max_bytes)


def _converse(link: Link, command: str, stdin: bytes, output_max_bytes: int) -> tuple[bytes, bytes]:
    channel = link.run(command)
    with link.translating():
        channel.sendall(stdin)
        channel.shutdown_write()
        channel.settimeout(_PROD_EVERY_S)
        output = b""
        while piece := _receive(channel, link):
            output += piece
            if len(output) > output_max_bytes:
                link.fail(f"it printed more than {output_max_bytes} bytes")
                raise link.lost()
        if not link.is_up:
            raise link.lost()
        said = channel.recv_stderr(output_max_bytes) if channel.recv_stderr_ready() else b""
    return output, said


def _receive(channel: paramiko.Channel, link: Link) -> bytes:
    """The next bytes; none at the end. The peer is made to speak while it has nothing to say."""
    while True:
        try:
            return bytes(channel.recv(_PIECE_BYTES))
        except TimeoutError:
            link.prod()


def _try_until(
    address: NodeAddress, keys: Sequence[OfferedKey], deadline_s: float, *, boots: bool
) -> Link:
    deadline = time.monotonic() + deadline_s
    pause_s, refusals = _FIRST_PAUSE_S, 0
    refusal: TransportError | None = None
    while True:
        left_s = deadline - time.monotonic()
        try:
            return _attempt(address, keys, max(0.1, min(left_s, _ATTEMPT_TIMEOUT_S)))
        except TransportError as error:
            if not error.retryable:
                raise
            if isinstance(error, AuthenticationRefused) and not boots:
                raise _locked_out(address, error) from error
            last = error
            if isinstance(error, AuthenticationRefused):
                refusals, refusal = refusals + 1, error
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            # Whom sshd has refused it may not talk to afterwards, which says less.
            raise _gave_up(address, deadline_s, refusal or last) from last
        wanted_s = pause_s if refusals < _REFUSALS else _REFUSED_PAUSE_S
        time.sleep(min(wanted_s, left_s))
        pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)


def _locked_out(address: NodeAddress, error: MockCloudError) -> TransportError:
    return TransportError(
        f"{address}: {error.message}",
        hint="Ask the machine's owner to add your public key to its authorized_keys.",
    )


def _gave_up(address: NodeAddress, deadline_s: float, last: MockCloudError) -> TransportError:
    if isinstance(last, AuthenticationRefused):
        hint = "The node has not been given our public key: see its cloud-init log."
    else:
        hint = "Is the node up, and its security group open to this machine?"
    return TransportError(f"{address}: no SSH within {deadline_s:g} s: {last.message}", hint=hint)


def _attempt(address: NodeAddress, keys: Sequence[OfferedKey], timeout_s: float) -> Link:
    wire = _open_wire(address, timeout_s)
    until = time.monotonic() + timeout_s
    transport = paramiko.Transport(wire)
    try:
        _configure(transport, address, timeout_s)
        _shake_hands(transport, address, timeout_s)
        began = time.monotonic()
        _authenticate(transport, address.user, keys)
        rtt_s = (time.monotonic() - began) / 2  # service request, then the signature
        return Link(address, transport, wire, rtt_s)
    except BaseException as error:
        hang_up(transport, wire)
        if isinstance(error, TransportError) and time.monotonic() >= until:
            wire.note_silence()
        if type(error) is TransportError and wire.said():
            raise TransportError(f"{error.message}: {wire.said()}") from error
        raise


def _open_wire(address: NodeAddress, timeout_s: float) -> Wire:
    try:
        if address.proxy:
            return start_proxy(address.proxy, timeout_s)
        return open_wire(address.host, address.port, timeout_s)
    except OSError as error:
        raise TransportError(f"cannot connect: {error.strerror or error}") from error


def _configure(transport: paramiko.Transport, address: NodeAddress, timeout_s: float) -> None:
    transport.banner_timeout = timeout_s
    transport.handshake_timeout = timeout_s
    transport.auth_timeout = timeout_s
    transport.channel_timeout = _CHANNEL_TIMEOUT_S
    transport.default_window_size = WINDOW_BYTES  # of channels that the node opens
    options = transport.get_security_options()
    options.ciphers = tuple(name for name in _CIPHERS if name in options.ciphers)
    pinned = address.host_key.algorithm
    wanted = _RSA_SIGNATURES if pinned == "ssh-rsa" else (pinned,)
    try:
        # Only the pinned key's type: another type is as unpinned as another key.
        options.key_types = wanted
    except ValueError as error:
        raise ConfigError(f"{address}: host keys of type {pinned!r} are not supported") from error


def _shake_hands(transport: paramiko.Transport, address: NodeAddress, timeout_s: float) -> None:
    pinned = address.host_key
    try:
        transport.start_client(timeout=timeout_s)
        if not transport.initial_kex_done:
            raise TransportError(f"no SSH handshake within {timeout_s:.0f} s")
        shown = shown_host_key(transport)
    except paramiko.ssh_exception.IncompatiblePeer as error:
        if "host key" not in str(error):
            raise TransportError(f"no algorithm in common: {error}") from error
        raise _mismatch(address, "no host key of that type") from error
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise TransportError(f"SSH handshake failed: {_text(error)}") from error
    if (shown.algorithm, shown.blob) != (pinned.algorithm, pinned.blob):
        raise _mismatch(address, f"{shown.algorithm} {shown.fingerprint}")


def _mismatch(address: NodeAddress, shown: str) -> HostKeyMismatch:
    pinned = address.host_key
    return HostKeyMismatch(
        f"{address}: expected host key {pinned.algorithm} {pinned.fingerprint}, got {shown}",
        hint="This is not the node that was made, or someone is in between. Nothing was sent.",
    )


def _authenticate(transport: paramiko.Transport, user: str, keys: Sequence[OfferedKey]) -> None:
    tried = []
    for offered in keys:
        tried.append(offered.name)
        try:
            remaining = transport.auth_publickey(user, offered.key)
        except paramiko.AuthenticationException:
            if transport.is_active():
                continue
            break  # sshd hangs up after MaxAuthTries
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise TransportError(f"authentication broke off: {_text(error)}") from error
        if remaining:
            raise AuthenticationRefused(f"sshd also wants {', '.join(remaining)}")
        return
    raise AuthenticationRefused(f"{', '.join(tried)}: refused for {user}")


def _quieten_paramiko() -> None:
    """What paramiko logs (tracebacks for every refused connection) reaches us as errors."""
    logger = logging.getLogger("paramiko")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())


def _text(error: BaseException) -> str:
    return str(error) or "the connection was closed"
