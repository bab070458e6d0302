# SPDX-License-Identifier: GPL-2.0-or-later
"""Local results: live logs, staging and names."""
