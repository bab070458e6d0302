# SPDX-License-Identifier: GPL-2.0-or-later
"""The signed manifest of the node's image, made as `mock-cloud known-good make` makes it."""

from __future__ import annotations

import os
import time
from dataclasses import replace

from mock_cloud.attest.envelope import Signer
from mock_cloud.attest.manifest import ImageManifest
from mock_cloud.attest.rules.expectations import (
    TOOLKIT_PROGRAM,
    Invocation,
    ProgramRule,
    SocketRule,
)
from mock_cloud.attest.validity import Validity, sign_manifest
from mock_cloud.images.tree_manifest import make_signed_manifest
from mock_cloud.sshkeys import make_key_pair
from tests.lab.foreign import emulator_path
from tests.lab.layout import Lab, code_digest, stamp_matches

_LIFETIME_S = 3650 * 86400


def build(lab: Lab) -> bool:
    """Make `lab.manifest` unless it is there for the same tree; returns whether it was made."""
    key = (lab.tree.parent / "key").read_text() + code_digest(("manifest",))
    stamp = lab.manifest.with_suffix(".key")
    if stamp_matches(stamp, key):
        return False
    signer = Signer.from_private(signing_key(lab))
    manifest, envelope, _ = make_signed_manifest(
        lab.tree,
        [lab.package_key.read_bytes()],
        signer,
        name="lab-node-1",
        validity=validity,
    )
    if lab.is_foreign:
        emulated = _with_emulator(manifest, lab)
        envelope = sign_manifest(emulated, validity(emulated), signer)
    lab.manifest.write_bytes(envelope)
    stamp.write_text(key)
    return True


def validity(manifest: ImageManifest) -> Validity:
    """From now on for ten years: a lab is kept for long, and trusted by nobody else."""
    now = int(time.time())
    return Validity(manifest.name, now, now, now + _LIFETIME_S)


def _with_emulator(manifest: ImageManifest, lab: Lab) -> ImageManifest:
    """What a node whose programs are emulated has besides: each process is the emulator's.

    Of such a node the kernel tells which file the emulator is, not what it interprets; so these
    rules are for a lab, and prove less than those of a real node.
    """
    program = emulator_path(lab.arch)
    return replace(
        manifest,
        arch=lab.arch,
        programs=(
            *manifest.programs,
            ProgramRule(program, Invocation.ANY, may_generate_code=True),
            # The emulator shows a program its own /proc entry with a page for signal handlers.
            ProgramRule(TOOLKIT_PROGRAM, Invocation.ANY, may_generate_code=True),
        ),
        sockets=(*manifest.sockets, SocketRule("tcp", 0, program)),
    )


def signing_key(lab: Lab) -> bytes:
    """An ed25519 key that lives with the lab; its public half is `lab.manifest_key`."""
    private = lab.keys / "manifest"
    if not private.exists():
        pair = make_key_pair()
        lab.manifest_key.write_text(f"{pair.public} lab image key\n")
        descriptor = os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(pair.private.reveal())
    return private.read_bytes()
