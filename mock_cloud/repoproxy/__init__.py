# SPDX-License-Identifier: GPL-2.0-or-later
"""Serves repositories that only the controller reaches to a node's dnf, and nothing else."""
