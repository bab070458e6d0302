# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs that call mock, unchanged, on the product: from checkouts, or from PyPI.

`make test-peers` runs them and writes docs/peers.md.
"""
