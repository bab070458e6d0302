# SPDX-License-Identifier: GPL-2.0-or-later
"""How far a command is: one timeline, told by three printers."""
