# SPDX-License-Identifier: GPL-2.0-or-later
"""Step 4: what a node gets before its job."""
