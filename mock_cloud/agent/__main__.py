# SPDX-License-Identifier: GPL-2.0-or-later
"""`python -m mock_cloud.agent`: the agent from a source tree, for tests."""

import sys

from mock_cloud.agent.main import main

sys.exit(main(sys.argv[1:]))
