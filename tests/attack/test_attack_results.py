# SPDX-License-Identifier: GPL-2.0-or-later
"""A node that was trusted turns hostile: what it can do to the resultdir by logs and results.

The connection is real: an sshd, and on the node an agent that says what the test has it say.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mock_cloud.cloud.jobs import JobRecord
from mock_cloud.cloud.lease import Holder
from mock_cloud.console import Console
from mock_cloud.errors import MockCloudError, ResultError
from mock_cloud.remote.trusted import TrustedChannel, trust
from mock_cloud.results.resultdir import ResultDir
from mock_cloud.steps.results.collecting import publishing
from mock_cloud.steps.results.copyout import unpack_copyout
from mock_cloud.steps.results.mirror import Mirror
from tests.component.conftest import Connect, connecting, shared_sshd, toolkit
from tests.component.remote_parts import HandJob, LocalToolkit, make_proof, make_toolkit
from tests.tree_archives import archive, directory, file, link

__all__ = ["connecting", "shared_sshd", "toolkit"]

VERDICT = b"verdict: trusted, by the controller\n"
THERE = {
    "remote_attestation.log": VERDICT,
    "remote_order.log": b"the controller's\n",
    "other-1-1.noarch.rpm": b"somebody else's package",
    "other.log": b"somebody else's log\n",
    "hw_info.log": b"of an earlier build\n",
    "Makefile": b"all:\n",
}

HOSTILE = """
import json, os, sys
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from mock_cloud.wire.frames import encode_frame, read_frame
stream = open(0, "rb", closefd=False)
def send(header, body=b""):
    os.write(1, encode_frame(header, body))
while (frame := read_frame(stream)) is not None:
    header, _ = frame
    op, number = header["op"], header["id"]
    if op == "job_follow":
        for name in {names!r}:
            send({{"id": number, "more": True, "log": name, "offset": 0}}, b"forged")
        status = {{"phase": "done", "exit": 0, "message": "", "layers": {{}}, "chroots": []}}
        send({{"id": number, "exit": 0, "status": status}})
    elif op == "ping":
        send({{"id": number, "clock": 0}})
    else:
        send({{"id": number}})
"""


@pytest.fixture
def resultdir(tmp_path: Path) -> Path:
    place = tmp_path / "result"
    place.mkdir()
    for name, data in THERE.items():
        (place / name).write_bytes(data)
    (place / "earlier").mkdir()
    (place / "earlier/build.log").write_bytes(b"of another package\n")
    return place


def check_untouched(resultdir: Path, *but: str) -> None:
    for name, data in THERE.items():
        assert (resultdir / name).read_bytes() == data, name
    assert (resultdir / "earlier/build.log").read_bytes() == b"of another package\n"
    names = {path.name for path in resultdir.iterdir()}
    assert names - set(but) == {*THERE, "earlier"}


def check_untouched_but_order(resultdir: Path, *but: str) -> None:
    """The order log is written anew once a job's results are there."""
    (resultdir / "remote_order.log").write_bytes(THERE["remote_order.log"])
    check_untouched(resultdir, *but)


def hostile_channel(connecting: Connect, place: Path, *names: str) -> TrustedChannel:
    node = connecting()
    node.start_agent(make_toolkit(place, main=HOSTILE.format(names=names)))
    return trust(node, make_proof(node.host_key))


@pytest.mark.attack(
    "node after the verdict",
    "streams a log under the name of an earlier result, or of the verdict",
    "refused; only mock's three logs are appended to, nothing is truncated",
)
@pytest.mark.parametrize("name", [*THERE, "earlier/build.log", "new.rpm", "a/b/build.log", "x.log"])
@pytest.mark.parametrize("packages", [(), ("mine",)], ids=["one", "chain"])
def test_a_live_log_of_another_name(
    connecting: Connect, resultdir: Path, tmp_path: Path, name: str, packages: tuple[str, ...]
) -> None:
    with (
        closing(hostile_channel(connecting, tmp_path / "evil", name)) as channel,
        ResultDir.open(resultdir, packages=packages) as opened,
        closing(Mirror(opened, Console(0), raw=False)) as mirror,
        pytest.raises(ResultError, match="refused"),
    ):
        channel.follow_job("j1", {}, mirror.take, within_s=60, idle_s=10)
    check_untouched(resultdir)


def test_mocks_logs_are_appended_to(connecting: Connect, resultdir: Path, tmp_path: Path) -> None:
    (resultdir / "build.log").write_bytes(b"earlier\n")
    with (
        closing(hostile_channel(connecting, tmp_path / "evil", "build.log")) as channel,
        ResultDir.open(resultdir) as opened,
        closing(Mirror(opened, Console(0), raw=False)) as mirror,
    ):
        assert channel.follow_job("j1", {}, mirror.take, within_s=60, idle_s=10).exit == 0
    assert (resultdir / "build.log").read_bytes() == b"earlier\nforged"
    check_untouched(resultdir, "build.log")


@pytest.fixture
def channel(connecting: Connect, toolkit: LocalToolkit) -> Iterator[TrustedChannel]:
    node = connecting()
    node.start_agent(toolkit)
    with closing(trust(node, make_proof(node.host_key))) as channel:
        yield channel


def gather(channel: TrustedChannel, resultdir: Path, *packages: str, plugins: bool = False) -> None:
    row = JobRecord(
        "j1", "r", "", (), "/", "rebuild", "f40", str(resultdir), packages, fresh=False,
        started_unix=0.0, holder=Holder.me(), uses_mock=plugins,
    )  # fmt: skip
    with (
        ResultDir.open(resultdir, packages=packages) as opened,
        closing(Mirror(opened, Console(0), raw=False)) as mirror,
        publishing(lambda act: act(channel), row, mirror, Console(0)),
    ):
        pass


@pytest.mark.attack(
    "node after the verdict",
    "offers a result under a name that the controller writes",
    "refused, and nothing of the job is published",
)
@pytest.mark.parametrize("plugins", [False, True], ids=["chroot", "mock"])
@pytest.mark.parametrize("name", ["remote_attestation.log", "remote_x.log"])
def test_the_verdict_as_a_result(
    channel: TrustedChannel, toolkit: LocalToolkit, resultdir: Path, name: str, plugins: bool
) -> None:
    job = HandJob(toolkit.workspace, "j1")
    job.append(name, b"verdict: trusted, says the node\n")
    job.append("good-1-1.noarch.rpm", b"package")
    with pytest.raises(ResultError, match="is refused: it is the controller's to write"):
        gather(channel, resultdir, plugins=plugins)
    check_untouched(resultdir)


@pytest.mark.attack(
    "node after the verdict",
    "in a chain, offers results for a package of an earlier one",
    "refused: a chain writes to its own packages' directories",
)
@pytest.mark.parametrize("name", ["earlier/build.log", "new/x.rpm"])
def test_a_chain_for_other_packages(
    channel: TrustedChannel, toolkit: LocalToolkit, resultdir: Path, name: str
) -> None:
    job = HandJob(toolkit.workspace, "j1")
    job.append(name, b"forged")
    with pytest.raises(ResultError, match="is refused: no package of this chain"):
        gather(channel, resultdir, "mine")
    check_untouched(resultdir)


def test_the_order_log_is_written_by_the_controller(
    channel: TrustedChannel, toolkit: LocalToolkit, resultdir: Path
) -> None:
    outside = resultdir.parent / "outside"
    outside.write_text("kept")
    for name in ("remote_order.log", "remote_attestation.log"):
        (resultdir / name).unlink()
    (resultdir / "remote_order.log").symlink_to(outside)
    HandJob(toolkit.workspace, "j1").append("good-1-1.noarch.rpm", b"package")
    gather(channel, resultdir)
    assert (resultdir / "good-1-1.noarch.rpm").read_bytes() == b"package"
    assert outside.read_text() == "kept"
    assert not (resultdir / "remote_order.log").is_symlink()
    events = [line.split()[2] for line in (resultdir / "remote_order.log").read_text().splitlines()]
    assert "trusted" in events and "results" in events


@pytest.mark.attack(
    "node after the verdict",
    "chroot_scan: an archive whose links lead out, or that is damaged half-way",
    "nothing is created through a link, and a damaged one changes nothing",
)
def test_a_scan_through_links(
    channel: TrustedChannel, toolkit: LocalToolkit, resultdir: Path
) -> None:
    outside = resultdir.parent / "outside"
    outside.mkdir()
    (resultdir / "chroot_scan").symlink_to(outside)
    job = HandJob(toolkit.workspace, "j1")
    inside = (file(b"x.log"), link(b"out", b"../../outside"))
    job.append("chroot_scan.tree", archive(*inside, directory(b"out", file(b"evil"))))
    with pytest.raises(ResultError, match="a name twice"):
        gather(channel, resultdir, plugins=True)
    assert (resultdir / "chroot_scan").is_symlink() and list(outside.iterdir()) == []
    (job.results / "chroot_scan.tree").write_bytes(archive(*inside, directory(b"var", *inside)))
    gather(channel, resultdir, plugins=True)
    assert list(outside.iterdir()) == [] and not (resultdir / "chroot_scan").is_symlink()
    assert (resultdir / "chroot_scan/var/x.log").read_bytes() == b"evil"
    check_untouched_but_order(resultdir, "chroot_scan")


@pytest.mark.attack(
    "node after the verdict",
    "--copyout: writes through a link of its own archive (a -> .., then a/.git/hooks/x)",
    "the archive has no words for it",
)
@pytest.mark.parametrize(
    "data",
    [
        archive(link(b"a", b"../.."), directory(b"a", directory(b".git", file(b"hook")))),
        archive(directory(b"t", link(b"a", b"../../.git"), directory(b"a", file(b"hook")))),
        archive(link(b"a", b"../.git/hook"), file(b"a")),
        archive(directory(b"t", link(b"a", b"../.git"), link(b"a/hook", b"/bin/sh"))),
    ],
)
def test_copyout_through_links(
    channel: TrustedChannel, toolkit: LocalToolkit, tmp_path: Path, data: bytes
) -> None:
    checkout = tmp_path / "checkout"
    (checkout / ".git").mkdir(parents=True)
    HandJob(toolkit.workspace, "j1").append("copyout.tree", data)
    with pytest.raises(ResultError):
        unpack_copyout(channel, "j1", ["/opt/t"], checkout / "new", whole=True)
    assert [path.name for path in checkout.rglob("*")] == [".git"]


@pytest.mark.attack(
    "node after the verdict",
    "--copyout: answers with other files than were asked for (.bashrc for motd)",
    "refused",
)
@pytest.mark.parametrize(
    ("pattern", "name"),
    [("/etc/motd", b".bashrc"), ("/etc/*", b".bashrc"), ("/etc/m*", b"Makefile")],
)
def test_copyout_of_other_names(
    channel: TrustedChannel, toolkit: LocalToolkit, tmp_path: Path, pattern: str, name: bytes
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / ".bashrc").write_text("mine")
    HandJob(toolkit.workspace, "j1").append("copyout.tree", archive(file(name)))
    with pytest.raises(ResultError, match="which nobody asked for"):
        unpack_copyout(channel, "j1", [pattern], home, whole=True)
    assert {path.name: path.read_text() for path in home.iterdir()} == {".bashrc": "mine"}


@pytest.mark.attack(
    "node after the verdict",
    "--copyout: announces less than it sends, or what no disk has room for",
    "refused before it is unpacked",
)
def test_copyout_beyond_what_was_announced(connecting: Connect, tmp_path: Path) -> None:
    answers = (
        'elif op == "results":\n'
        '        send({"id": number, "files": [{"name": "copyout.tree", "size": SIZE,'
        ' "sha256": "0" * 64, "mode": 420}]})\n'
        '    elif op == "get":\n'
        '        [send({"id": number, "more": True}, bytes(1 << 16)) for _ in range(64)]\n'
        '    elif op == "ping":'
    )
    place = tmp_path / "place"
    place.mkdir()
    text = HOSTILE.format(names=()).replace('elif op == "ping":', answers)
    for size, words in ((1000, "more bytes than announced"), (1 << 49, "has .* MiB free")):
        main = text.replace("SIZE", str(size))
        node = connecting()
        node.start_agent(make_toolkit(tmp_path / f"evil{size}", main=main))
        with (
            closing(trust(node, make_proof(node.host_key))) as channel,
            pytest.raises(MockCloudError, match=words),
        ):
            unpack_copyout(channel, "j1", ["/x"], place / "new", whole=True)
        assert list(place.iterdir()) == []
