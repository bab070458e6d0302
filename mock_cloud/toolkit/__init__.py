# SPDX-License-Identifier: GPL-2.0-or-later
"""Packs the self-contained tree (loader, python, libraries, agent) that nodes run."""
