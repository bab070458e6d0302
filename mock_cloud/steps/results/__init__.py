# SPDX-License-Identifier: GPL-2.0-or-later
"""Step 6: logs and results come here."""
