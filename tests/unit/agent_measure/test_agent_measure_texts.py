# SPDX-License-Identifier: GPL-2.0-or-later
"""Which files' bytes are sent along, and that no odd file stops the measuring."""

from __future__ import annotations

import base64
import os
from pathlib import Path

from mock_cloud.agent.measure.evidence import measure_texts
from mock_cloud.wire.text_places import TEXT_MAX, TEXTS_MAX


def put(root: Path, path: str, text: str) -> Path:
    place = root / path[1:]
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)
    return place


def test_small_files_in_their_places_are_sent(tmp_path: Path) -> None:
    put(tmp_path, "/etc/machine-id", "ab\n")
    put(tmp_path, "/etc/shadow", "secret")
    put(tmp_path, "/boot/grub2/grubenv", "x" * TEXT_MAX)
    put(tmp_path, "/etc/systemd/network/10-cloud-init-eth0.network", "[Match]\n")
    put(tmp_path, "/etc/systemd/network/99-mine.network", "[Match]\n")
    put(tmp_path, "/etc/NetworkManager/system-connections/wifi.nmconnection", "psk=secret")
    found = {path: base64.b64decode(text) for path, text in measure_texts(str(tmp_path))}
    assert found == {
        "/etc/machine-id": b"ab\n",
        "/boot/grub2/grubenv": b"x" * TEXT_MAX,
        "/etc/systemd/network/10-cloud-init-eth0.network": b"[Match]\n",
    }


def test_what_is_no_small_regular_file_is_not(tmp_path: Path) -> None:
    put(tmp_path, "/boot/grub2/grubenv", "x" * (TEXT_MAX + 1))
    (tmp_path / "etc").mkdir()
    os.mkfifo(tmp_path / "etc/machine-id")
    (tmp_path / "etc/resolv.conf").symlink_to("/etc/hostname")  # of the root's, not of ours
    (tmp_path / "run/systemd/resolve/resolv.conf").mkdir(parents=True)
    assert measure_texts(str(tmp_path)) == []


def test_no_more_than_so_many(tmp_path: Path) -> None:
    for number in range(TEXTS_MAX + 5):
        put(tmp_path, f"/etc/sysconfig/network-scripts/ifcfg-eth{number}", "")
    assert len(measure_texts(str(tmp_path))) == TEXTS_MAX
