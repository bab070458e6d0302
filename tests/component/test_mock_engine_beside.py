# SPDX-License-Identifier: GPL-2.0-or-later
"""Two jobs of the mock engine in one chroot: two real mocks, whose own lock decides."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.component.cloud_nodes import eventually
from tests.component.engine_node import LAB, NEEDS_LAB
from tests.component.mock_engine import INPUTS, ROOT, MockSite, mock_site

pytestmark = NEEDS_LAB
LOCKED = "ERROR: Build root is locked by another process."
READS_A_LINE = "echo begun; read word; echo $word"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MockSite]:
    with mock_site(LAB, tmp_path_factory.mktemp("mock-beside")) as site:
        assert site.run("init", "--init").exit == 0
        yield site


def start_shell(site: MockSite, *, beside: str = "") -> str:
    """A shell that is at work in the chroot, and ends when it has read a line."""
    request = site.request("shell", "--shell", "--", READS_A_LINE, foreign=True, beside=beside)
    job = site.node.start(request)
    while b"begun" not in (site.node.job_dir(job) / "terminal").read_bytes():
        assert site.node.ask("state", job) == "running", site.node.wait(job).stderr
    return job


@contextmanager
def shell(site: MockSite) -> Iterator[str]:
    job = start_shell(site)
    yield job
    site.node.ask("input", job, "done\n", True)
    ended = site.node.wait(job)
    assert ended.exit == 0, ended.stderr
    assert ended.stdout.endswith(b"done\n")


def trees(site: MockSite) -> list[str]:
    return sorted(path.name for path in (site.node.mock / ROOT).glob("mock.*"))


def caches(site: MockSite) -> list[Path]:
    """Of the chroot: mock's, and what is known of its files (docs/decisions, 95)."""
    return sorted((site.node.workspace / "dnf").iterdir())


def test_mock_works_beside_a_mock(site: MockSite, tmp_path: Path) -> None:
    (tmp_path / "copied").write_text("one")
    item = site.packed("copyin", "copyin.tree", tmp_path, "copied")
    with shell(site) as job:
        words = ("--copyin", f"{INPUTS}/copyin/copied", "/var/tmp/")
        ended = site.run("copyin", *words, inputs=(item,), beside=job)
        assert ended.exit == 0, ended.stderr
        assert ended.status["layers"] == {}
        assert ended.status["chroots"] == ["/var/lib/mock/lab-1-x86_64"]
        ended = site.run("chroot", "--chroot", "cat /var/tmp/copied", foreign=True, beside=job)
        assert (ended.exit, ended.stdout) == (0, b"one"), ended.stderr
        looked = "test -e /proc/self/exe && test -d /sys/kernel && test -c /dev/pts/ptmx"
        ended = site.run("chroot", "--chroot", looked, foreign=True, beside=job)
        assert ended.exit == 0, ended.stderr
        assert site.run("orphanskill", "--orphanskill", beside=job).exit == 0
        ended = site.run("install", "--install", "bison", foreign=True, beside=job)
        assert ended.exit == 0, ended.stderr
        assert trees(site) == [f"mock.{job}"]
    assert len(caches(site)) == 2
    kept = site.run("chroot", "--chroot", "cat /var/tmp/copied; rpm -q bison", foreign=True)
    assert kept.exit == 0, kept.stderr
    assert kept.stdout.startswith(b"onebison")


@pytest.mark.parametrize("words", [("--clean",), ("--scrub=chroot",), ("--init",)])
def test_what_empties_the_chroot_is_refused_by_mock_itself(
    site: MockSite, words: tuple[str, ...]
) -> None:
    assert site.shell("touch /root/stays", foreign=True).exit == 0
    with shell(site) as job:
        mode = "scrub" if "scrub" in words[0] else words[0][2:]
        ended = site.run(mode, *words, beside=job)
        assert (ended.exit, LOCKED in ended.stderr) == (60, True), ended.stderr
    assert site.shell("test -e /root/stays", foreign=True).exit == 0


def test_the_last_mock_records_the_chroot(site: MockSite) -> None:
    first = start_shell(site)
    second = start_shell(site, beside=first)
    site.node.ask("input", first, "one\n", True)
    ended = site.node.wait(first)
    assert ended.exit == 0, ended.stderr
    assert not any("/mock." in path for path in ended.status["layers"])
    assert site.node.ask("state", second) == "running"
    site.node.ask("input", second, "two\n", True)
    ended = site.node.wait(second)
    assert ended.exit == 0, ended.stderr
    assert list(ended.status["layers"]) == [f"/var/lib/mock/lab-1-x86_64/mock.{first}"]
    assert site.shell("test -d /builddir", foreign=True).exit == 0
    eventually(lambda: site.node.processes() == [])


def test_a_mock_that_is_cancelled_takes_no_other_along(site: MockSite) -> None:
    first = start_shell(site)
    second = start_shell(site, beside=first)
    assert site.node.ask("cancel", first) is True
    assert site.node.wait(first).exit == 7
    site.node.ask("input", second, "two\n", True)
    ended = site.node.wait(second)
    assert (ended.exit, ended.stdout[-4:]) == (0, b"two\n")
    assert site.shell("test -d /builddir", foreign=True).exit == 0
