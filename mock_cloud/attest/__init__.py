# SPDX-License-Identifier: GPL-2.0-or-later
"""Evidence to verdict: known-good sets, policies, and the one place that trusts a node.

Pure: no I/O, no clock, no SSH. Callers pass bytes and get a proof or a refusal.
"""
