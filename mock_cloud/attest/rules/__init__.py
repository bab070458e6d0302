# SPDX-License-Identifier: GPL-2.0-or-later
"""What may differ from node to node and from boot to boot, and what it must still be."""
