# SPDX-License-Identifier: GPL-2.0-or-later
"""Steps 3 and 7: the node is measured and judged."""
