# SPDX-License-Identifier: GPL-2.0-or-later
"""Talking to a host before there is an agent: one script a call."""

from __future__ import annotations

import contextlib
import re
import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from mock_cloud.cloud.hosts.certificate import CERTIFICATE_ALGORITHMS, verify_host_certificate
from mock_cloud.cloud.hosts.route import STRICT, Hop, Route, quote_command
from mock_cloud.errors import (
    CloudError,
    ConfigError,
    ConnectionLost,
    HostKeyMismatch,
    TransportError,
)
from mock_cloud.jump_master import share_jump
from mock_cloud.model import HostKey, NodeAddress, UserKeys
from mock_cloud.process import CommandFailed, Ended, converse, own_environment
from mock_cloud.settings import HostSettings
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.terminal_text import clean, printable

_CALL_TIMEOUT_S: Final = 30.0
WIPE_TIMEOUT_S: Final = 300.0
"""For what may remove chroots. A frozen machine is noticed sooner."""

_HOP_TIMEOUT_S: Final = 12.0
_ALIAS: Final = "mock-cloud"
_BANNER: Final = b"SSH-2.0-"


class HostUnusable(CloudError):
    """A host cannot be used now. `claimed`: its answer was lost, so it may hold our claim."""

    def __init__(self, message: str, *, hint: str | None = None, claimed: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.claimed = claimed


def find_host_key(host: HostSettings, route: Route) -> HostKey:
    """The key to pin: the configured one, or the one that the host's CA certifies now.

    HostKeyMismatch for a certificate that does not hold, HostUnusable if there is no answer.
    """
    if host.host_key is not None:
        return host.host_key
    if host.host_ca is None:
        raise HostKeyMismatch(f"host {host.name} has neither a host key nor a CA")
    shown = _fetch_certificate(host, route)
    try:
        return verify_host_certificate(shown, host.host_ca, {host.address, route.host})
    except HostKeyMismatch as error:
        raise HostKeyMismatch(f"host {host.name}: {error.message}", hint=error.hint) from error


def ask(
    address: NodeAddress,
    script: str,
    *words: str,
    hops: Sequence[Hop] = (),
    timeout_s: float = _CALL_TIMEOUT_S,
) -> Answer:
    """Run `script` on the host; its answer. HostKeyMismatch, HostUnusable.

    `hops` lead there, for messages; without them the whole way is one.
    """
    # paramiko takes longer to load than all the rest of a command that has no host.
    from mock_cloud.remote.connect import AuthenticationRefused, run_remotely

    try:
        output, said = run_remotely(
            address,
            address.user_keys or UserKeys(),
            shlex.join(["sh", "-s", "--", *words]),
            stdin=script.encode(),
            timeout_s=timeout_s,
            output_max_bytes=ANSWER_MAX_BYTES,
        )
    except HostKeyMismatch:
        raise
    except AuthenticationRefused as error:
        raise HostUnusable(
            f"{address}: {error.message}",
            hint="ask its owner to add your public key to its authorized_keys",
        ) from error
    except ConnectionLost as error:
        raise HostUnusable(error.message, claimed=True) from error
    except TransportError as error:
        raise _explain(address, hops, error.message) from error
    except ConfigError as error:
        raise HostUnusable(f"{address}: {error.message}", hint=error.hint) from error
    try:
        return parse_answer(output)
    except AnswerError as error:
        last = clean(said[-_LINE_MAX:])
        why = f"{error}; {last}" if last else str(error)
        raise HostUnusable(f"{address}: {why}", claimed=True) from error


def _way(address: NodeAddress) -> list[str]:
    words = ["-l", address.user, "-p", str(address.port)]
    if address.proxy:
        # Its own complaints would be taken for the host's; `_failure` asks each hop for them.
        command = f"ProxyCommand={quote_command(address.proxy)} 2>/dev/null"
        words = ["-o", command, *words]
    return words


def _options(options: Sequence[str]) -> list[str]:
    return [word for option in options for word in ("-o", option)]


def _quoted(text: str) -> str:
    """A word as ssh_config(5) quotes it, its percent signs kept from being tokens."""
    inside = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{inside}"'


def _fetch_certificate(host: HostSettings, route: Route) -> str:
    """The certificate that the host shows, in base64, unverified.

    OpenSSH tells it to a KnownHostsCommand (since 8.5), is given no key in return, and breaks off
    before it authenticates: nothing is sent.
    """
    nobody = HostKey("ssh-ed25519", b"")
    way = share_jump(route.proxy, _CALL_TIMEOUT_S)
    address = replace(NodeAddress(route.host, route.port, host.user, nobody), proxy=way)
    with tempfile.TemporaryDirectory(prefix="mock-cloud-") as directory:
        found = Path(directory, "HOSTNAME")  # what %I says when a key was shown
        teller = f"/bin/sh -c {_told()} sh %K {_quoted(directory)}/%I"
        options = [
            *STRICT,
            f"HostKeyAlias={_ALIAS}",
            f"HostKeyAlgorithms={','.join(CERTIFICATE_ALGORITHMS)}",
            f"KnownHostsCommand={teller}",
            "UserKnownHostsFile=/dev/null",
            "GlobalKnownHostsFile=/dev/null",
            "PreferredAuthentications=none",
        ]
        argv = ["ssh", "-F", "none", "-T", *_options(options), *_way(address), "--", address.host]
        try:
            ended = converse(
                argv, timeout_s=_CALL_TIMEOUT_S, output_max_bytes=ANSWER_MAX_BYTES,
                extra_env=own_environment(),
            )  # fmt: skip
        except CommandFailed as error:
            raise HostUnusable(f"{address}: {error.status}") from error
        with contextlib.suppress(FileNotFoundError):
            return found.read_text(errors="replace").strip()
    if "no matching host key type" in _said(ended):
        raise HostKeyMismatch(
            f"host {host.name}: it shows no host certificate, but host_ca is configured",
            hint="Nothing was sent. The owner sets HostCertificate in sshd_config.",
        )
    raise _explain(address, route.hops, _said(ended))


def _told() -> str:
    return '\'printf %%s "$1" > "$2"\''


def _explain(address: NodeAddress, hops: Sequence[Hop], said: str) -> HostUnusable:
    """Why nothing answered: the first hop that does not work, or what was `said`."""
    if address.proxy and not hops:
        hops = (Hop("the way there", address.proxy),)
    for hop in hops:
        why = _find_hop_problem(hop)
        if why is not None:
            return HostUnusable(
                f"{address}: {hop.name}: {why}", hint=f"try: {shlex.join(hop.argv)}"
            )
    return HostUnusable(f"{address}: {said}")


def _find_hop_problem(hop: Hop) -> str | None:
    """Why no sshd greets at the far end of this hop; None if one does."""
    try:
        # Its stdin ends at once, and so does the connection, right after the greeting.
        ended = converse(
            hop.argv, timeout_s=_HOP_TIMEOUT_S, output_max_bytes=ANSWER_MAX_BYTES,
            extra_env=own_environment(),
        )  # fmt: skip
    except CommandFailed as error:
        return str(error.status)
    if ended.stdout.startswith(_BANNER):
        return None
    return _said(ended)


def _said(ended: Ended) -> str:
    lines = [line for line in ended.stderr.splitlines() if line.strip().strip(b"@")]
    return clean(b"\n".join(lines[-4:])) or f"ssh ended with status {ended.status}"


# What the scripts of a claim answer, parsed: hostile text, a few short lines.
ANSWER_MAX_BYTES: Final = 8192
_LINE_MAX: Final = 300
_LEASE: Final = re.compile(r"[0-9a-f]{1,64}")


class AnswerError(ValueError):
    """The host said something else than a claim's script says."""


@dataclass(frozen=True, slots=True)
class Free:
    """Nobody has a claim on the host."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A lease has a claim on the host, for `left_s` seconds more unless it is given back."""

    lease: str
    owner: str
    remote: str
    left_s: int


@dataclass(frozen=True, slots=True)
class Unfit:
    """The host cannot be used; `why` is its own word, made printable."""

    why: str


Answer = Free | Taken | Unfit


def parse_answer(data: bytes) -> Answer:
    """The answer in a script's output. What its owner's shell prints before is passed over.

    AnswerError.
    """
    text = data.decode(errors="backslashreplace")
    lines = [printable(line.strip())[:_LINE_MAX] for line in text.splitlines()]
    for index in range(len(lines) - 1, -1, -1):
        word, rest = lines[index], lines[index + 1 :]
        if word == "free" and not rest:
            return Free()
        if word == "refused" and len(rest) == 1:
            return Unfit(rest[0])
        if word in ("taken", "claimed") and len(rest) == 4:
            return _taken(*rest)
    raise AnswerError(
        f"not an answer of mock-cloud's script: {' | '.join(lines[-3:]) or 'nothing'}"
    )


def _taken(lease: str, owner: str, remote: str, left_s: str) -> Taken:
    if not _LEASE.fullmatch(lease) or not re.fullmatch(r"\d{1,9}", left_s):
        raise AnswerError("its claim was not made by mock-cloud")
    return Taken(lease, owner, remote, int(left_s))
