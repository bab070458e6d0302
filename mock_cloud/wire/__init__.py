# SPDX-License-Identifier: GPL-2.0-or-later
"""What controller and node both speak; standard library only, packed into the toolkit."""
