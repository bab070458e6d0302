# SPDX-License-Identifier: GPL-2.0-or-later
"""Places on a node that both ends name, and the words that start the agent's processes there."""

from __future__ import annotations

from typing import Final

WORKSPACE: Final = "/var/lib/mock-cloud"
"""Where the agent keeps toolkit, blobs, jobs and layers on a node."""

MOCK_LIBDIR: Final = "/var/lib/mock"
"""mock's own directory for chroots; the same on node and controller."""

MOCK_CACHEDIR: Final = "/var/cache/mock"

NODE_DIRS: Final = (WORKSPACE, MOCK_LIBDIR, MOCK_CACHEDIR)
"""What mock-cloud and mock have on a node."""

SKIPPED: Final = (
    MOCK_LIBDIR,
    MOCK_CACHEDIR,
    f"{WORKSPACE}/blobs",
    f"{WORKSPACE}/dnf",
    f"{WORKSPACE}/jobs",
    f"{WORKSPACE}/layers",
)
"""Directories that are not measured: inputs, caches and chroots. Nothing there is run by the node
itself. Recorded trees are compared by digest; the rest is removed before a job starts."""

HOST_KEY_FILE: Final = "/etc/ssh/ssh_host_ed25519_key"
"""sshd's only host key on a node that mock-cloud made."""

RPMDB_DIRS: Final = ("/usr/lib/sysimage/rpm", "/var/lib/rpm")
"""Where the packages' database may be, in the order in which Koji looks for it."""

NODE_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""PATH of what is started without a user's environment."""

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
