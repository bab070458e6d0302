# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds that are repeated: after a scratch build, by builders who must agree, or as an audit."""
