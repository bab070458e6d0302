# SPDX-License-Identifier: GPL-2.0-or-later
"""Step 2: a node is leased and reached."""
