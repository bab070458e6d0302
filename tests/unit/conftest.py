# SPDX-License-Identifier: GPL-2.0-or-later
"""Packages for the tests: a real one from rpmbuild, and forged ones."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

SPEC = """\
Name: tiny
Version: 1.0
Release: 1
Summary: a package for tests
License: MIT
BuildArch: noarch
%description
%{summary}
%files
"""


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """A source and a binary package made by rpmbuild."""
    if shutil.which("rpmbuild") is None:
        pytest.skip("needs rpmbuild")
    top = tmp_path_factory.mktemp("tiny")
    (top / "tiny.spec").write_text(SPEC)
    subprocess.run(
        ["rpmbuild", "-ba", "--quiet", "--define", f"_topdir {top}", "--define",
         f"_dbpath {top}/db", str(top / "tiny.spec")],
        check=True, capture_output=True, timeout=600,
    )  # fmt: skip
    (binary,) = top.glob("RPMS/noarch/*.rpm")
    (source,) = top.glob("SRPMS/*.rpm")
    return {"source": source, "binary": binary, "spec": top / "tiny.spec"}


Forge = Callable[..., bytes]


@pytest.fixture
def forge() -> Forge:
    """Bytes of an RPM with the given header entries; keyword `source` sets SOURCEPACKAGE.

    `claimed` is the size in the signature header; `payload_sizes` makes it one of format 6.
    """

    def header(entries: list[tuple[int, int, bytes]]) -> bytes:
        index, data = b"", b""
        for tag, kind, value in entries:
            data += b"\0" * (-len(data) % {4: 4, 5: 8}.get(kind, 1))
            index += struct.pack(">IIII", tag, kind, len(data), 1)
            data += value
        return (
            b"\x8e\xad\xe8\x01" + b"\0" * 4 + struct.pack(">II", len(entries), len(data))
            + index + data
        )  # fmt: skip

    def make(
        name: bytes = b"a", version: bytes = b"1", release: bytes = b"1", arch: bytes = b"noarch",
        *, source: bool = True, claimed: int | None = None, payload: bytes = b"payload",
        payload_sizes: tuple[int, int] | None = None,
    ) -> bytes:  # fmt: skip
        entries = [
            (tag, 6, value + b"\0")
            for tag, value in ((1000, name), (1001, version), (1002, release), (1022, arch))
        ]
        if source:
            entries.append((1106, 4, struct.pack(">I", 1)))
        if payload_sizes:
            entries += [
                (5112, 5, struct.pack(">Q", payload_sizes[0])),
                (5113, 5, struct.pack(">Q", payload_sizes[1])),
                (5114, 4, struct.pack(">I", 6)),
            ]
        main = header(entries) + payload
        size = len(main) if claimed is None else claimed
        signature = header([(1000, 4, struct.pack(">I", size))])
        lead = b"\xed\xab\xee\xdb\x03\x00\x00" + bytes([source]) + b"\0" * 88
        start = lead + signature
        return start + b"\0" * (-len(start) % 8) + main

    return make
