# SPDX-License-Identifier: GPL-2.0-or-later
"""Where mock-cloud keeps what on a node, and the words that start its processes there."""

from __future__ import annotations

from typing import Final

WORKSPACE: Final = "/var/lib/mock-cloud"
"""Where the agent keeps toolkit, blobs, jobs and layers on a node."""

MOCK_LIBDIR: Final = "/var/lib/mock"
"""mock's own directory for chroots; the same on node and controller."""

SERVE: Final = "serve"
"""The agent of one connection."""

LAUNCH: Final = "launch"
"""What starts the jobs of an agent, see `agent.serve_launch`."""

DEADMAN: Final = "deadman"
"""The dead-man timer, which ends the node when its lease is over, see `agent.deadman`; also its
directory in the workspace."""

CA_BUNDLES: Final = (
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/ca-bundle.pem",
)
