# SPDX-License-Identifier: GPL-2.0-or-later
"""What distributions sign, read strictly: RPM headers and release files, by pinned keys."""
