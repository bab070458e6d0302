# SPDX-License-Identifier: GPL-2.0-or-later
"""Nodes from cloud APIs: one provider for all of them, and a small adapter for each API."""
