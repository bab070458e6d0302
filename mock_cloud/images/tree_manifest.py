# SPDX-License-Identifier: GPL-2.0-or-later
"""Measures an RPM tree before it is ever booted and signs what it holds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from mock_cloud.agent.measure.evidence import measure
from mock_cloud.agent.measure.headers import read_headers
from mock_cloud.attest.accounts import parse_accounts
from mock_cloud.attest.envelope import Signer
from mock_cloud.attest.evidence import parse_evidence
from mock_cloud.attest.image_manifest import BakeChoices, make_manifest
from mock_cloud.attest.manifest import ImageManifest
from mock_cloud.attest.packages import HeaderCache
from mock_cloud.attest.signer_report import SignerReport, read_signer_report
from mock_cloud.attest.validity import Validity, sign_manifest
from mock_cloud.errors import ConfigError
from mock_cloud.signed.keys import PackageKeys
from mock_cloud.steps.attest.known_good_sets import read_file
from mock_cloud.wire.layout import SKIPPED
from mock_cloud.wire.records import pack


def make_signed_manifest(
    root: Path,
    package_keys: PackageKeys | Sequence[bytes],
    signer: Signer,
    *,
    name: str,
    validity: Callable[[ImageManifest], Validity],
    adjust: Callable[[BakeChoices], BakeChoices] = lambda choices: choices,
) -> tuple[ImageManifest, bytes, SignerReport]:
    """The manifest of the tree at `root`, its DSSE envelope, and what its signer vouches for.

    `adjust` may add to what an image with sshd and nothing else is signed for; `validity` says for
    how long.

    `package_keys` may be armoured certificates.
    ConfigError for what cannot be read, AttestationRefused for a package that is not signed.
    """
    try:
        evidence = measure("", list(SKIPPED), [], None, root=str(root.resolve()))
        headers = read_headers(str(root.resolve()))
        accounts = parse_accounts(
            read_file(root / "etc/passwd", "the image's"),
            read_file(root / "etc/group", "the image's"),
        )
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"cannot measure {root}: {error}", hint="run as root, on a tree made by dnf"
        ) from error
    keys = (
        package_keys if isinstance(package_keys, PackageKeys) else PackageKeys.parse(package_keys)
    )
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    choices = adjust(BakeChoices(name=name, created=created, accounts=accounts))
    facts = parse_evidence(b"".join(pack(evidence)))
    cache: HeaderCache = {}
    manifest = make_manifest(facts, headers, keys, choices, cache=cache)
    signer_report = replace(
        read_signer_report(manifest, None, facts, headers, keys, cache),
        mounts=choices.mounts,
        programs=choices.programs,
        sockets=choices.sockets,
        volatile=choices.volatile,
    )
    return manifest, sign_manifest(manifest, validity(manifest), signer), signer_report
