# SPDX-License-Identifier: GPL-2.0-or-later
"""Step 1: what is checked on this machine before anything is leased."""
