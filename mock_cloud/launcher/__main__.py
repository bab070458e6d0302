# SPDX-License-Identifier: GPL-2.0-or-later
"""python -m mock_cloud.launcher: the drop-in `mock`."""

import sys

from mock_cloud.launcher.fast_path import main

sys.exit(main())
