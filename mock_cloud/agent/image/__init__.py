# SPDX-License-Identifier: GPL-2.0-or-later
"""Making a node's own system fit to be an image: packages in, what is this one node's out."""
