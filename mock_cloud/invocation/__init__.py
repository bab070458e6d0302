# SPDX-License-Identifier: GPL-2.0-or-later
"""mock's command line, understood: modes, options, and the host paths they name."""
