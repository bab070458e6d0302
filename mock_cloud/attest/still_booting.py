# SPDX-License-Identifier: GPL-2.0-or-later
"""Which reasons against a node say no more than that it has not finished booting, or hanging up.

systemd starts sshd once cloud-init's network stage has made its keys (cloud-init.service has
Before=sshd.service, cloud-config.service and cloud-final.service have not), so a new node can be
measured while the last stages run. Nothing here trusts it: who waits measures all of it anew.
"""

from __future__ import annotations

import re
from typing import Final

from mock_cloud.attest.rules import cloudinit
from mock_cloud.attest.rules.cloudinit import Shape
from mock_cloud.attest.verdict import REASONS_MAX
from mock_cloud.errors import AttestationRefused, Reason

# Of what runs: that it is not among the programs which may run for good. That its code is
# known is a matter of other codes, which no boot explains. systemd loads BPF programs for a service
# that may open few devices, and they go with it.
_RUNNING: Final = (
    "connection.unknown", "connection.unowned", "kernel.bpf", "login.witness",
    "process.anonymous-code", "process.namespace", "process.unknown", "socket.unknown",
    "socket.unowned",
)  # fmt: skip
# An sshd notices the end of its connection when it next runs, and a login starts programs that end
# (root's systemd, its generators): who waits has sshd read its configuration without them.
_CLOSING: Final = (
    "connection.unknown", "connection.unowned", "login.agent", "login.session", "login.witness",
)  # fmt: skip
# What ended between the listing and the look, with its files: services that D-Bus starts for half a
# minute, as systemd-hostnamed.
_GONE: Final = "ENOENT"
_HANG_UP_S: Final = 5.0
_BEING_WRITTEN: Final = ("file.changed", "file.unreadable", "file.volatile")

# A file on its way to its name (cloudinit/atomic_helper.py, Python's tempfile).
_DRAFT: Final = re.compile(
    rf"(?:{cloudinit.STATE_DIR}/(?:data|instances/[^/]+)|{cloudinit.RUN_DIR})/tmp[a-z0-9_]{{8}}"
)


def is_booting(refused: AttestationRefused) -> bool:
    """Whether a boot that goes on explains every reason of a refusal."""
    return _are_all_known(refused) and all(map(_is_passing, refused.reasons))


def is_hanging_up(refused: AttestationRefused) -> bool:
    """Whether logins that come or go this very moment explain every reason of a refusal."""
    return _are_all_known(refused) and all(one.code in _CLOSING for one in refused.reasons)


def find_patience_s(refused: AttestationRefused, boot_s: float) -> float:
    """For how long a node is measured anew that was refused for this; 0: not at all.

    `boot_s`: so long it may still be booting.
    """
    return max(_HANG_UP_S * is_hanging_up(refused), boot_s * is_booting(refused))


def _are_all_known(refused: AttestationRefused) -> bool:
    return 0 < len(refused.reasons) < REASONS_MAX


def _is_passing(reason: Reason) -> bool:
    if reason.code in _RUNNING:
        return True
    if reason.code == "file.unreadable" and reason.found == _GONE:
        return True
    if reason.code in _BEING_WRITTEN:
        return cloudinit.find_shape(reason.subject) in (Shape.DATA, Shape.NOTE)
    return reason.code == "file.unknown" and _DRAFT.fullmatch(reason.subject) is not None
