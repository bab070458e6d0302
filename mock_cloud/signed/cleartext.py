# SPDX-License-Identifier: GPL-2.0-or-later
"""The clear-signature framework (RFC 9580, 7): a text with its signatures below it."""

from __future__ import annotations

from typing import Final

from mock_cloud.signed.openpgp import OpenPgpError, read_armour

_BEGIN: Final = b"-----BEGIN PGP SIGNED MESSAGE-----"


def read_message(message: bytes) -> tuple[bytes, bytes]:
    """The text in `message`, with the line ends \\n, and its signatures' packets.

    The text is what signatures cover, but for \\r\\n at the end of its lines: what stands before
    and after it, escapes and blanks at the end of lines are taken out. OpenPgpError.
    """
    lines = [line.rstrip(b" \t\r") for line in message.split(b"\n")]
    try:
        at = lines.index(_BEGIN) + 1
        end = lines.index(b"-----BEGIN PGP SIGNATURE-----", at)
    except ValueError as error:
        raise OpenPgpError("no signed message") from error
    while lines[at]:  # a header other than Hash could look like a part of the text
        if not lines[at].startswith(b"Hash: "):
            raise OpenPgpError("a header in a signed message")
        at += 1
    text = lines[at + 1 : end]
    if at >= end or any(line[:1] == b"-" and line[:2] != b"- " for line in text):
        raise OpenPgpError("a signed message with a line that is not escaped")
    plain = b"\n".join(line[2:] if line[:2] == b"- " else line for line in text)
    return plain, read_armour(b"\n".join(lines[end:]), b"SIGNATURE")
