# SPDX-License-Identifier: GPL-2.0-or-later
"""What is signed of a finished build, and checking it: files and public keys, no cloud, no SSH."""
