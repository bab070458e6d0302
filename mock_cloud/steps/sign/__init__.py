# SPDX-License-Identifier: GPL-2.0-or-later
"""After step 7: what was built is signed for."""
