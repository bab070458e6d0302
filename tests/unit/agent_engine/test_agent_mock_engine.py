# SPDX-License-Identifier: GPL-2.0-or-later
"""What the mock engine writes for mock, and what it lets through of mock's output."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from mock_cloud.agent.engine.errors import ConfigurationError, EngineError
from mock_cloud.agent.engine.mock.accounts import USER, write_accounts
from mock_cloud.agent.engine.mock.config import chroot_digest, write_config
from mock_cloud.agent.engine.mock.inputs import unpack_inputs
from mock_cloud.agent.engine.mock.output import Filter
from mock_cloud.wire.job_request import JOB_DIRECTORY, TUNNEL_PROXY, MockRun


def run(argv: tuple[str, ...] = (), kit: str = "kit", **options: Any) -> MockRun:
    return MockRun("r-x86_64", "r-7-x86_64", list(argv), json.dumps(options), kit=kit)


def executed(directory: Path, run: MockRun, name: str = "r-7-x86_64") -> dict[str, Any]:
    """config_opts after mock would have executed the file that was written."""
    write_config(str(directory), run, "http://127.0.0.1:7")
    opts: dict[str, Any] = {
        "isolation": None,
        "plugins": ["sign", "site"],
        "plugin_conf": {"sign_enable": True, "site_enable": False, "site_opts": {"a": 1, "b": 2}},
    }
    exec((directory / f"{name}.cfg").read_text(), {"config_opts": opts})  # noqa: S102  as mock does
    return opts


def test_the_requests_options_come_before_the_nodes_own(tmp_path: Path) -> None:
    opts = executed(
        tmp_path,
        run(basedir="/elsewhere", root="r-7", macros={"%x": "it's"}, files=["include('/etc/x')\n"]),
    )
    assert opts["root"] == "r-7"
    assert opts["macros"] == {"%x": "it's"}
    assert (opts["basedir"], opts["cache_topdir"]) == ("/var/lib/mock", "/run/mock-cloud/cache")
    assert opts["plugin_dir"] == "/run/mock-cloud/kit/mockbuild/plugins"
    # mock looks for it at the beginning of lines.
    assert "\ninclude" not in (tmp_path / "r-7-x86_64.cfg").read_text()


def test_places_stand_where_the_controller_named_them(tmp_path: Path) -> None:
    conf = f"gpgkey=file://{JOB_DIRECTORY}/inputs/gpgkey/k\nproxy={TUNNEL_PROXY}\n"
    opts = executed(tmp_path, run(**{"dnf.conf": conf, "l": [{"d": f"{JOB_DIRECTORY}/inputs/x"}]}))
    key = "gpgkey=file:///run/mock-cloud/inputs/gpgkey/k"
    assert opts["dnf.conf"] == f"{key}\nproxy=http://127.0.0.1:7\n"
    assert opts["l"] == [{"d": "/run/mock-cloud/inputs/x"}]


def test_plugins_options_are_merged_and_the_controllers_plugins_are_off(tmp_path: Path) -> None:
    wanted = {"site_enable": True, "site_opts": {"b": 3}, "new_opts": {"c": 4}}
    conf = executed(tmp_path, run(plugin_conf={**wanted, "sign_enable": True}))["plugin_conf"]
    assert conf["site_opts"] == {"a": 1, "b": 3}
    assert conf["new_opts"] == {"c": 4}
    assert (conf["site_enable"], conf["sign_enable"]) == (True, False)
    assert conf["mock_cloud_network_enable"] is True
    assert conf["mock_cloud_overlay_enable"] is True


@pytest.mark.parametrize("asked", [None, "auto", "nspawn"])
def test_the_jail_isolates(tmp_path: Path, asked: str | None) -> None:
    assert executed(tmp_path, run(isolation=asked))["isolation"] == "simple"


def test_a_cached_chroot_is_not_packed_by_gzip_unless_that_was_chosen(tmp_path: Path) -> None:
    for options in ({}, {"compress_program": "pigz", "extension": ".gz", "max_age_days": 3}):
        conf = executed(tmp_path, run(plugin_conf={"root_cache_opts": options}))["plugin_conf"]
        packing = (
            conf["root_cache_opts"]["compress_program"],
            conf["root_cache_opts"]["extension"],
        )
        assert packing in {("zstd", ".zst"), ("", "")}
        assert conf["root_cache_opts"].get("max_age_days") == options.get("max_age_days")


@pytest.mark.parametrize(
    "chosen",
    [
        {"compress_program": "xz", "extension": ".xz"},
        {"compress_program": "pigz", "extension": ".tgz"},
        {"decompress_program": "unpigz"},
    ],
)
def test_the_configurations_own_packing_of_a_cached_chroot_stays(
    tmp_path: Path, chosen: dict[str, str]
) -> None:
    conf = executed(tmp_path, run(plugin_conf={"root_cache_opts": chosen}))["plugin_conf"]
    assert conf["root_cache_opts"] == chosen


def test_bsdtar_keeps_its_packing(tmp_path: Path) -> None:
    assert "root_cache_opts" not in executed(tmp_path, run(tar="bsdtar"))["plugin_conf"]


def test_a_hermetic_build_has_the_name_that_mock_gives_it(tmp_path: Path) -> None:
    opts = executed(tmp_path, run(("--hermetic-build", "l", "r"), root="r"), "hermetic-build")
    assert opts["root"] == "r"


@pytest.mark.parametrize("name", ["", "../x", ".hidden"])
def test_names_that_are_no_configuration_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError):
        write_config(str(tmp_path), MockRun("r", name, [], "{}"), "")


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_options_that_are_no_object_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError):
        write_config(str(tmp_path), MockRun("r", "r", [], text), "")


def test_options_about_builds_do_not_age_a_cached_chroot() -> None:
    first = chroot_digest(run(**{"dnf.conf": "a", "macros": {"%x": "1"}}))
    assert chroot_digest(run(**{"dnf.conf": "a", "macros": {"%x": "2"}})) == first
    assert chroot_digest(run(**{"dnf.conf": "b", "macros": {"%x": "1"}})) != first


ETC = {
    "passwd": "root:x:0:0:root:/root:/bin/bash\nfedora:x:1000:1000::/home/fedora:/bin/bash\n",
    "group": "root:x:0:\nusers:x:135:\n",
}


@pytest.mark.parametrize(
    ("groups", "gid"), [(ETC["group"], 999), ("mock:x:77:\n", 77), ("users:x:100:\n", 135)]
)
def test_mock_sees_a_build_user_without_files(tmp_path: Path, groups: str, gid: int) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(ETC["passwd"])
    (tmp_path / "etc/group").write_text(groups)
    assert write_accounts(str(tmp_path), 1000, "/empty", str(tmp_path / "etc")) == gid
    users = (tmp_path / "passwd").read_text().splitlines()
    assert users == [
        "root:x:0:0:root:/root:/bin/bash", f"{USER}:x:1000:{gid}::/empty:/sbin/nologin",
    ]  # fmt: skip
    assert f"mock:x:{gid}:" in (tmp_path / "group").read_text().splitlines()


BANNER = b"INFO: mock.py version 6.7 starting (python version = 3.11.2), args: x\n"
OUTPUT = b"WARNING: first\n" + BANNER + b"in /job/results: /job/result\n/job/res"


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_paths_become_the_users_wherever_output_is_cut(size: int) -> None:
    stream = Filter({b"/job/results": b"/home/me"}, drops_banner=True)
    shown = b"".join(stream.feed(OUTPUT[at : at + size]) for at in range(0, len(OUTPUT), size))
    assert shown + stream.finish() == b"WARNING: first\nin /home/me: /job/result\n/job/res"


def test_nothing_is_held_back_after_the_banner() -> None:
    stream = Filter({}, drops_banner=True)
    assert stream.feed(BANNER + b"prompt> ") == b"prompt> "
    assert stream.feed(b"/") == b"/"


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, 0o755
    return info


@pytest.mark.parametrize(
    "members",
    [
        [member("../out")],
        [member("/out")],
        [member("a/../../out")],
        [member("a", tarfile.SYMTYPE, ".."), member("a/out")],
        [member("d", tarfile.CHRTYPE)],
        [member("h", tarfile.LNKTYPE, "/etc/passwd")],
    ],
)
def test_archives_stay_where_they_belong(tmp_path: Path, members: list[tarfile.TarInfo]) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for info in members:
            tar.addfile(info, io.BytesIO(b""))
    (tmp_path / "in").mkdir()
    with pytest.raises(EngineError) as caught:
        unpack_inputs(str(tmp_path / "x.tar"), str(tmp_path / "in"))
    assert caught.value.exit_code == 75
    assert not (tmp_path / "out").exists()
