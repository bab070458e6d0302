# SPDX-License-Identifier: GPL-2.0-or-later
"""The node's own timer: it ends the node when its lease is over or its controller is gone."""
