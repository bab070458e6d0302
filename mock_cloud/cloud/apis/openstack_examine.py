# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether an OpenStack cloud has what a remote's file names, asked without making anything.

Paths and keys: the Compute API reference, "Images", "Flavors", "Limits", "Availability zones".
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from mock_cloud.cloud.apis.calls import Calls
from mock_cloud.cloud.apis.openstack_failures import read_one
from mock_cloud.cloud.apis.texts import NotThere
from mock_cloud.cloud.provider import Finding, look
from mock_cloud.errors import CloudError, ConfigError
from mock_cloud.settings import NodeSettings


def examine_openstack(
    calls: Calls, compute: Callable[[], Any], node: NodeSettings
) -> list[Finding]:
    """Credentials with the quota first: without them nothing else is asked."""
    found = [look("credentials and quota", lambda: _quota(calls, compute))]
    if not found[0].ok:
        return found
    for kind, handles in (("image", node.images), ("flavor", node.sizes)):
        found += [
            look(f"{kind} {handle}", partial(_named, calls, compute, kind, handle))
            for handle in handles
        ]
    return found


def _quota(calls: Calls, compute: Callable[[], Any]) -> str:
    limits = calls.read("read limits", lambda: read_one(compute(), "/limits", "limits"))
    absolute = limits.get("absolute")
    counts = absolute if isinstance(absolute, dict) else {}
    told = []
    for name, used, most in (
        ("servers", "totalInstancesUsed", "maxTotalInstances"),
        ("cores", "totalCoresUsed", "maxTotalCores"),
        ("MiB of memory", "totalRAMUsed", "maxTotalRAMSize"),
    ):
        now, limit = counts.get(used), counts.get(most)
        if not isinstance(now, int) or not isinstance(limit, int) or limit < 0:
            continue  # -1 is "no limit"
        if now >= limit:
            raise CloudError(
                f"{now} of {limit} {name} are in use", hint="end servers, or ask for more quota"
            )
        told.append(f"{now} of {limit} {name} in use")
    return ", ".join(told) or "accepted; the API tells no limit"


def _named(calls: Calls, compute: Callable[[], Any], kind: str, handle: str) -> str:
    """What the API says of an image or a flavor by its id."""
    try:
        answer = calls.read(
            f"show {kind} {handle}", lambda: read_one(compute(), f"/{kind}s/{handle}", kind)
        )
    except NotThere as error:
        raise ConfigError(f"there is no {kind} {handle}", hint=error.hint) from error
    words = [str(answer.get("name", ""))]
    if kind == "image":
        status = str(answer.get("status", ""))
        if status.upper() != "ACTIVE":
            raise ConfigError(f"image {handle} is {status or 'of no known state'}, not active")
        words.append(status.lower())
    else:
        words += [f"{answer.get('vcpus', '?')} vCPUs", f"{answer.get('ram', '?')} MiB"]
    return ", ".join(words)
