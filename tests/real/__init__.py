# SPDX-License-Identifier: GPL-2.0-or-later
"""Headers, packages, keys and databases of real distributions, judged by us and by rpm."""
