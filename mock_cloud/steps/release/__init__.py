# SPDX-License-Identifier: GPL-2.0-or-later
"""Step 8: the node is given back, or left as it was found."""
