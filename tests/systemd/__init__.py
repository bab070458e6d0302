# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines with systemd: false refusals counted, and what root on one could leave behind."""
