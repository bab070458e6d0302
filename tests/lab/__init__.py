# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab: real parts for tests, made from what the machine's own distribution has."""
