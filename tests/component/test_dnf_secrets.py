# SPDX-License-Identifier: GPL-2.0-or-later
"""What dnf itself shows a repository's server, and what this machine shows it in dnf's place."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from mock_cloud.config.access import Accesses
from mock_cloud.config.repositories import make_portable
from mock_cloud.repoproxy.access import Access
from mock_cloud.repoproxy.allow import AllowList
from mock_cloud.repoproxy.repository import ServedRepository
from tests.lab.http import FileServer
from tests.unit.repoproxy.proxied import HOST, Proxied, make

pytestmark = pytest.mark.skipif(shutil.which("dnf") is None, reason="needs dnf")

MAIN = "[main]\nreposdir=/dev/null\ngpgcheck=0\ncachedir={place}/cache\n"
CASES = {
    "nothing": "baseurl=http://{at}/r",
    "options": "baseurl=http://{at}/r\nusername=me\npassword=hunter22",
    "url": "baseurl=http://me:hunter22@{at}/r",
    "escapes": "baseurl=http://m%40e:hunter%3a22@{at}/r",
    "options and url": "baseurl=http://you:other@{at}/r\nusername=me\npassword=hunter22",
    "colons": "baseurl=http://{at}/r\nusername=me\npassword=a:b@c%41",
}


def answers(server: FileServer) -> set[str]:
    return {one.authorization for one in server.accesses()}


def ask_by_dnf(place: Path, text: str, env: Mapping[str, str]) -> None:
    """Have dnf fetch the metadata, whatever comes of it."""
    config = place / "dnf.conf"
    config.write_text(text)
    root = place / "root"
    root.mkdir(exist_ok=True)
    words = ["dnf", "-q", "-c", str(config), f"--installroot={root}", "--releasever=1",
             "--setopt=retries=1", "makecache"]  # fmt: skip
    subprocess.run(
        words, env={"PATH": "/usr/bin:/bin", **env}, check=False, capture_output=True, timeout=300
    )


def find_access(text: str, env: Mapping[str, str]) -> Access:
    made = make_portable(text, {}, (), accesses=Accesses({}, dict(env)))
    if made.accesses.found:
        (found,) = made.accesses.found.values()
        return found
    (line,) = (one for one in text.splitlines() if one.startswith("baseurl="))
    return Access("r", "r", (line.partition("=")[2],))


@pytest.mark.parametrize("netrc", [False, True])
@pytest.mark.parametrize("case", sorted(CASES))
def test_servers_are_told_what_dnf_tells_them(
    tmp_path: Path, case: str, netrc: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`~/.netrc` is no word of dnf's: neither a name nor a password comes from there."""
    home = tmp_path / "home"
    home.mkdir()
    if netrc:
        (home / ".netrc").write_text("machine 127.0.0.1 login you password net-rc\n")
        (home / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(home))
    make(tmp_path / "r")
    with FileServer({"/r": tmp_path / "r"}) as server:
        at = server.url.partition("://")[2]
        text = f"{MAIN.format(place=tmp_path)}[r]\nname=r\n{CASES[case].format(at=at)}\n"
        ask_by_dnf(tmp_path, text, {"HOME": str(home)})
        by_dnf = answers(server)
        assert len(by_dnf) == 1
        server.forget_accesses()
        served = ServedRepository(find_access(text, {}))
        Proxied(AllowList(repositories=(served,))).get(f"{HOST}/repodata/repomd.xml")
        assert answers(server) == by_dnf
    assert ("" in by_dnf) == (case == "nothing")
