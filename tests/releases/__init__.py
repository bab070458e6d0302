# SPDX-License-Identifier: GPL-2.0-or-later
"""README's commands on fresh systems of other releases than this machine's."""
