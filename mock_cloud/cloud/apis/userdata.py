# SPDX-License-Identifier: GPL-2.0-or-later
"""The user-data that makes an image into our node, and the files that cloud-init makes of it.

Facts on cloud-init are from its sources, 22.4 to 26.x: `config/cc_ssh.py`, `ssh_util.py`,
`distros/*`, `config/cc_bootcmd.py`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Final

from mock_cloud.cloud.provider import Bootstrap, InjectedFile, InjectedType
from mock_cloud.errors import CloudError
from mock_cloud.model import Secret
from mock_cloud.wire.layout import HOST_KEY_FILE

USER_DATA_MAX_BYTES: Final = 4096
"""Some drivers put user-data into a URL, where servers take 8 KiB of it, base64 and escaped."""

# bootcmd runs before sysinit.target where cloud-init is as Debian has it: without logind, systemd's
# shutdown does at once what it is to do later (systemctl-logind.c: "proceeding with immediate
# shutdown"). cloud-init's power_state sets the timer anew as the boot ends.
_TIMER: Final = (
    "[ -d /run/systemd/system ] && ! systemctl -q is-active systemd-logind"
    " || exec shutdown -P +{minutes}"
)


def make_user_data(bootstrap: Bootstrap, *, expires_unix: float, now_unix: float) -> Secret:
    """The ``#cloud-config`` (JSON is YAML) that gives a node its keys, its name and its end.

    The node powers itself off at `expires_unix`, rounded up to a minute, or later by as long as it
    took to boot: the timer is set before anybody has connected, as early as it can be. CloudError
    beyond `USER_DATA_MAX_BYTES`.
    """
    minutes = max(1, math.ceil((expires_unix - now_unix) / 60))
    config = {
        "bootcmd": [["sh", "-c", _TIMER.format(minutes=minutes)]],
        "power_state": {"mode": "poweroff", "delay": f"+{minutes}", "condition": True},
        # No default user: it would be one with sudo and without a password. (Up to 23.x cloud-init
        # warns of an empty list, as its schema forgot what its manual says.)
        "users": [],
        "disable_root": False,
        "ssh_pwauth": False,
        "ssh_deletekeys": True,
        # Without the public half, which cloud-init then derives: the file that it writes for
        # a given one is 0600 or 0644, by its version.
        "ssh_keys": {"ed25519_private": bootstrap.host_key.private.reveal().decode()},
        "ssh_authorized_keys": [str(bootstrap.client_key)],
        "preserve_hostname": False,
        "hostname": bootstrap.hostname,
    }
    text = b"#cloud-config\n" + json.dumps(config, separators=(",", ":")).encode() + b"\n"
    if len(text) > USER_DATA_MAX_BYTES:
        raise CloudError(
            f"user-data of {len(text)} bytes: more than {USER_DATA_MAX_BYTES} are not sent"
        )
    return Secret(text)


def files_of_user_data(bootstrap: Bootstrap) -> Mapping[str, InjectedFile]:
    """What cloud-init writes from that, where the image has neither these files nor root's keys.

    The public key's comment and mode are those of `KEY_GEN_TPL` in cc_ssh.py under systemd's
    umask; hostname files end with a newline on all distributions.
    """
    return {
        "/etc/hostname": _file(0o644, f"{bootstrap.hostname}\n".encode()),
        HOST_KEY_FILE: _file(0o600, bootstrap.host_key.private.reveal()),
        f"{HOST_KEY_FILE}.pub": _file(
            0o644, f"{bootstrap.host_key.public} root@localhost\n".encode()
        ),
        "/root/.ssh": InjectedFile(InjectedType.DIRECTORY, 0o700),
        "/root/.ssh/authorized_keys": _file(0o600, f"{bootstrap.client_key}\n".encode()),
    }


def _file(mode: int, content: bytes) -> InjectedFile:
    return InjectedFile(InjectedType.FILE, mode, content=content)
