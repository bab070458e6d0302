# SPDX-License-Identifier: GPL-2.0-or-later
"""What only Koji's builder needs. No other build needs it."""
