# SPDX-License-Identifier: GPL-2.0-or-later
"""Where local mock and `mock --remote` agree, scenario by scenario; made into docs/agreement.md."""
