# SPDX-License-Identifier: GPL-2.0-or-later
"""What the steps of a build need: a room a step, see `mock_cloud.session`."""
