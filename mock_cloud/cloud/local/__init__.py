# SPDX-License-Identifier: GPL-2.0-or-later
"""Nodes in namespaces of this machine: the `local` provider and each node's supervisor."""
