# SPDX-License-Identifier: GPL-2.0-or-later
"""The mock engine: real mock, sent by the controller or the node's own, performs the job."""
