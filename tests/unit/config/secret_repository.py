# SPDX-License-Identifier: GPL-2.0-or-later
"""A configuration whose repository and proxy want secrets."""

from __future__ import annotations

SECRET_REPOSITORY = (
    "config_opts['dnf.conf'] += '[l]\\nbaseurl=http://l\\nusername=me\\n"
    "password={{ our_password }}\\n'\nconfig_opts['our_password'] = 'correct-horse'\n"
    "config_opts['https_proxy'] = 'http://u:correct-horse@p:1'\n"
)
