# SPDX-License-Identifier: GPL-2.0-or-later
"""One remote build, composed from the parts that never import each other."""
