# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether packages are the same build: reads files of this machine, and nothing else."""
