# SPDX-License-Identifier: GPL-2.0-or-later
"""Pages for people about finished builds: one HTML file each, which needs nothing else."""
