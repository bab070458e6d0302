# SPDX-License-Identifier: GPL-2.0-or-later
"""Remotes for the lab's clouds, in the words of mock-cloud-remotes(5)."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab.clouds.openstack_identity import COMPUTE
from tests.lab.keys import package_keys

if TYPE_CHECKING:
    from tests.lab.clouds.cloud import Cloud

_COMMON = """\
[remote]
provider = "{provider}"
arches = ["{arch}"]

[node.{arch}]
images = ["{image}"]
sizes = ["{size}"]

[attest]
manifest_keys = ["{manifest_key}"]
package_keys = {package_keys}
"""
_STOCK = """manifest = "{manifest}"
unsafe_containers = true
"""


def remote(cloud: Cloud, provider: str, size: str, table: dict[str, str]) -> str:
    """A remote's file: the stock image with its manifest, and `table` of the provider's name."""
    text = _COMMON.format(
        provider=provider,
        arch=platform.machine(),
        image=cloud.image_id,
        size=size,
        manifest_key=cloud.lab.manifest_key,
        package_keys=json.dumps([str(key) for key in package_keys(cloud.lab)]),
    )
    if not cloud.lab.has_systemd:
        text += _STOCK.format(manifest=cloud.manifest)
    lines = [f"{key} = {json.dumps(value)}" for key, value in table.items()]  # strings are TOML's
    return text + "\n".join([f"\n[{provider}]", *lines]) + "\n"


def clouds_yaml(auth_url: str, auth: dict[str, str], region: str) -> str:
    """A clouds.yaml (JSON is YAML) with one cloud, ``lab``."""
    entry = {
        "auth": {"auth_url": auth_url, **auth},
        "auth_type": "v3applicationcredential",
        "region_name": region,
        "compute_service_name": COMPUTE,
    }
    return json.dumps({"clouds": {"lab": entry}}, indent=2) + "\n"


def write_private(path: Path, text: str) -> None:
    """A file that only its owner may read: it names a password."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)
