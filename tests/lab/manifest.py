# SPDX-License-Identifier: GPL-2.0-or-later
"""The signed manifest of the node's image, made as `mock-cloud known-good make` makes it."""

from __future__ import annotations

import os
from dataclasses import replace

from mock_cloud.attest import (
    ImageManifest,
    Invocation,
    ProgramRule,
    SocketRule,
    sign_manifest,
)
from mock_cloud.attest.expectations import TOOLKIT_PROGRAM
from mock_cloud.session.baking import make_signed_manifest
from mock_cloud.sshkeys import make_key_pair
from tests.lab.foreign import emulator_path
from tests.lab.layout import Lab, code_digest, stamp_matches


def build(lab: Lab) -> bool:
    """Make `lab.manifest` unless it is there for the same tree; returns whether it was made."""
    key = (lab.tree.parent / "key").read_text() + code_digest(("manifest",))
    stamp = lab.manifest.with_suffix(".key")
    if stamp_matches(stamp, key):
        return False
    signing = signing_key(lab)
    manifest, envelope = make_signed_manifest(
        lab.tree, [lab.package_key.read_bytes()], signing, name="lab-node-1"
    )
    if lab.is_foreign:
        envelope = sign_manifest(_with_emulator(manifest, lab), signing)
    lab.manifest.write_bytes(envelope)
    stamp.write_text(key)
    return True


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
