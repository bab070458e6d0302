# SPDX-License-Identifier: GPL-2.0-or-later
"""Packages of one command, each a build of its own, on several nodes at once."""
