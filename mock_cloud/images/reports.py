# SPDX-License-Identifier: GPL-2.0-or-later
"""The report beside a manifest: what its signer vouches for."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from mock_cloud.attest.signer_report import SignerReport
from mock_cloud.console import Console
from mock_cloud.steps.sign.signers import write_whole

_LINES_SHOWN: Final = 40


def report_path(manifest: Path) -> Path:
    """Where the report of the manifest at this path is."""
    return manifest.with_name(f"{manifest.name}.report")


def write_report(signer_report: SignerReport, report: Path) -> None:
    """One line a fact. InputError."""
    write_whole(report, "".join(f"{line}\n" for line in signer_report.lines()).encode())


def tell_signer_report(
    signer_report: SignerReport, report: Path, name: str, console: Console
) -> None:
    """Write the report; show what nobody signed for, and what an earlier report did not have."""
    lines = list(signer_report.unverified_lines())
    try:
        earlier = set(report.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError):
        earlier = set()
    write_report(signer_report, report)
    console.info(
        f"{name}: {len(signer_report.packages)} packages are signed by pinned keys; no package's"
        f" signature covers {len(lines)} other files, processes and mounts: {report}"
    )
    shown = lines
    if earlier:
        shown = [line for line in lines if line not in earlier]
        console.info(f"{len(shown)} of them are new since the report that was there")
    for line in shown[:_LINES_SHOWN]:
        console.info(f"  {line}")
    if len(shown) > _LINES_SHOWN:
        console.info(f"  and {len(shown) - _LINES_SHOWN} more")
