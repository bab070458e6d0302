# SPDX-License-Identifier: GPL-2.0-or-later
"""Step 4: what a trusted node gets before its job: inputs, and a way to the repositories."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mock_cloud.errors import ForwardingRefused
from mock_cloud.steps.context import Build
from mock_cloud.steps.send.repo_tunnel import Tunnel, open_tunnel


def send_inputs(build: Build) -> None:
    """Send the inputs that the node lacks, and cannot fetch."""
    if build.remote.build.sources:
        from mock_cloud.steps.send.lookaside import fetch_sources  # few builds need it

        fetch_sources(build)
    console, blobs = build.console, build.planned.blobs
    total = sum(blob.size_bytes for blob in blobs)
    sent = 0

    def progress(count: int) -> None:
        nonlocal sent
        sent += count
        done = min(sent, total)  # what was on its way when a line was lost is sent again
        message = f"remote {build.remote.name}: sending {done >> 20} of {total >> 20} MiB"
        console.progress(message, done, total)

    build.connection.lasting(lambda channel: channel.send_blobs(blobs, progress))
    console.done()


@contextmanager
def tunnelled(build: Build) -> Iterator[Tunnel]:
    """The way to the repositories, if the job needs any. Spares a node whose sshd forwards none."""
    work, leased = build.planned, build.leased
    repositories = work.repositories
    try:
        if work.needs_repositories:
            build.tunnel = build.connection.lasting(
                lambda channel: open_tunnel(channel, repositories, build.remote, build.console)
            )
        else:
            build.tunnel = Tunnel(repositories)
        try:
            yield build.tunnel
        finally:
            build.tunnel.close()
            build.tunnel = None
    except ForwardingRefused:
        leased.spared = leased.builds > 1
        raise
