# SPDX-License-Identifier: GPL-2.0-or-later
"""Making and sharing images of nodes. No build needs it."""
