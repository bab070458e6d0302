# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs of the lab's cloud image: packed into it, never run here. Standard library only."""
