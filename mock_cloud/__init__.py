# SPDX-License-Identifier: GPL-2.0-or-later
"""mock-cloud: build RPMs with mock on an attested remote node."""

__version__ = "0.1.0"
