# SPDX-License-Identifier: GPL-2.0-or-later
"""Results with a provenance, spoiled in one way each: what `mock-cloud verify` says of them."""
