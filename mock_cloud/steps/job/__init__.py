# SPDX-License-Identifier: GPL-2.0-or-later
"""Step 5: the job on the node."""
