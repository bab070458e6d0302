# SPDX-License-Identifier: GPL-2.0-or-later
"""What builders did, one entry after the other: kept, chained, rated. No cloud, no SSH."""
