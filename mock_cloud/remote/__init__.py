# SPDX-License-Identifier: GPL-2.0-or-later
"""SSH to nodes: one connection, one agent, pinned host keys. Only here: paramiko."""
