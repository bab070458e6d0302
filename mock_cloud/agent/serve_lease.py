# SPDX-License-Identifier: GPL-2.0-or-later
"""What a trusted controller has done to a node for the node's own safety.

The timer that ends it; and, on nodes of clouds, a host key that nobody else has seen and a
metadata service that no build can ask.
"""

from __future__ import annotations

from typing import Final

from mock_cloud.agent.deadman.line import Line
from mock_cloud.agent.serve_wire import Failure
from mock_cloud.wire.decode import Malformed, decode
from mock_cloud.wire.frames import FrameHeader
from mock_cloud.wire.orderlog import OrderLog
from mock_cloud.wire.timer_order import Order

LEASE_KINDS: Final = {"lease": str, "life_s": int, "grace_s": int, "ending": str}
HOST_KEY_KINDS: Final = {"public": str}


class NodeCare:
    """The operations of one agent. `heard` is for the thread that reads frames."""

    def __init__(self, workspace: str, log: OrderLog) -> None:
        self._line = Line(workspace)
        self._log = log
        self._metadata_is_closed = False

    def heard(self) -> None:
        """The controller sent something."""
        self._line.beat()

    def lease(self, header: FrameHeader) -> FrameHeader:
        """Arm the timer, or renew or shorten what it was told. Failure."""
        try:
            order = decode(Order, {key: header[key] for key in LEASE_KINDS})
        except Malformed as error:
            raise Failure("bad-request", str(error)) from error
        self._line.order(order)
        self._log.write("lease", f"{order.lease} {order.life_s} s, {order.ending.value}")
        return {}

    def host_key(self, header: FrameHeader, body: bytes) -> FrameHeader:
        """Take the key pair into use. Failure; OSError."""
        from mock_cloud.agent.hostkey import install_host_key

        install_host_key(body, header["public"])
        self._log.write("host-key", header["public"])
        return {}

    def close_metadata(self) -> FrameHeader:
        """Close the metadata service to all jobs from now on. Failure."""
        self._metadata_is_closed = True  # it must be, or no job starts
        self._keep_metadata_closed()
        self._log.write("metadata-closed")
        return {}

    def before_job(self) -> None:
        """What was closed is closed still: network services may have started anew. Failure."""
        if self._metadata_is_closed:
            self._keep_metadata_closed()

    def _keep_metadata_closed(self) -> None:
        from mock_cloud.agent.metadata import block_metadata

        block_metadata()

    def close(self) -> None:
        self._line.close()
