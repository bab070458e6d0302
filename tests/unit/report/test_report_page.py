# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock-cloud report` and `compare --html`: what stands on a page; nothing acts there."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mock_cloud.cli import main
from mock_cloud.provenance.statement import Agreement
from tests.mutations.honest import Results, can_build, fingerprint, make_results, owner_signature

pytestmark = pytest.mark.skipif(not can_build(), reason="needs rpmbuild")

HOSTILE = "</pre><script>alert(1)</script><img src=x onerror=alert(2)>\x1b]0;owned\x07\u202e"
STATES = """\
2026-11-30 01:00:00,000 - Mock Version: 5
2026-11-30 01:00:00,000 - Start: run
2026-11-30 01:00:00,500 - Start: chroot init
2026-11-30 01:00:20,500 - Finish: chroot init
"""
TAGS = {
    "html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "div", "span", "strong",
    "p", "ul", "li", "dl", "dt", "dd", "table", "tr", "th", "td", "details", "summary", "pre",
    "code", "br", "footer",
}  # fmt: skip


class _Reader(HTMLParser):
    """The page's elements, attributes and texts, as a browser takes them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self._style = False
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self._style = tag == "style"
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += "" if self._style else data

    @property
    def words(self) -> str:
        return " ".join(self.text.split())


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return make_results(tmp_path / "results")


def report(output: Path, *words: object, results: Results | None = None) -> _Reader:
    keys = [] if results is None else ["--keys", str(results.keys[0])]
    assert main(["report", *map(str, words), "-o", str(output), *keys]) == 0
    page = output.read_text()
    assert "http" not in page.replace("http-equiv", ""), "it leads elsewhere"
    read = _Reader(page)
    assert read.tags <= TAGS
    assert read.attributes <= {
        "lang", "charset", "http-equiv", "content", "name", "class", "style", "open", "title",
        "data-place",
    }  # fmt: skip
    return read


def test_verified_results_say_so_first(results: Results, tmp_path: Path) -> None:
    page = report(tmp_path / "page.html", results.place, results=results).words
    verdict = page.index("verified: 2 packages, built on an attested node")
    vouched = page.index("Who vouches for it")
    inputs = page.index("What was built from what")
    assert verdict < vouched < inputs < page.index("Logs")
    for fact in (
        "recomputed from the evidence", "host:SHA256:lent, owner ada", "one.src.rpm (srpm)",
        "the build chroot: 1 package", "--with=tests", "that the kernel does not lie",
        "build.log of an honest build",
    ):  # fmt: skip
        assert fact in page


def test_all_who_vouch_for_it_are_named(results: Results, tmp_path: Path) -> None:
    results.owner_signature = owner_signature(results)
    results.agreed = (Agreement("host:SHA256:fair", "grace", "SHA256:f", "j-2", "L1", "0" * 64),)
    results.sign()
    page = report(tmp_path / "page.html", results.place, results=results).words
    vouched = page.partition("Who vouches for it")[2].partition("What was built")[0]
    assert f"owner signed with{fingerprint('owner')}" in vouched
    assert "built the samehost:SHA256:fair, owner grace (L1), job j-2" in vouched
    (results.place / "one-1-1.noarch.rpm").write_bytes(b"evil")
    page = report(tmp_path / "page.html", results.place, results=results).words
    assert "owner signed with" not in page


def test_nothing_of_a_node_acts_on_the_page(results: Results, tmp_path: Path) -> None:
    (results.place / "build.log").write_text(f"a.c:1: error: {HOSTILE}\n" * 3)
    (results.place / f"a{HOSTILE.replace('/', '')}.log").write_text("x")
    found = results.provenance()
    node = replace(found.used.node, owner=HOSTILE, remote=HOSTILE)
    agreed = (Agreement(HOSTILE, HOSTILE, HOSTILE, HOSTILE, "L0", "0" * 64),)
    used = replace(found.used, node=node, macros={HOSTILE: HOSTILE}, agreed=agreed)
    results.sign(replace(found, used=used))
    shutil.copytree(results.place, tmp_path / "other")
    (tmp_path / "other" / "<b>extra").write_text("x")
    page = report(tmp_path / "p.html", results.place, tmp_path / "other", results=results)
    assert "error: </pre><script>alert(1)</script>" in page.text
    assert "^[]0;owned^G<U+202E>" in page.text
    assert "<b>extra" in page.text
    assert not {"\x1b", "\u202e", "\x07"} & set(page.text)


def test_refused_results_are_not_praised(results: Results, tmp_path: Path) -> None:
    (results.place / "one-1-1.noarch.rpm").write_bytes(b"evil")
    page = report(tmp_path / "page.html", results.place, results=results).words
    assert "REFUSED: do not use these results" in page
    assert "result.changed: one-1-1.noarch.rpm" in page
    assert "verified" not in page


def test_what_another_key_signed_is_not_told(results: Results, tmp_path: Path) -> None:
    results.sign(by="stranger")
    page = report(tmp_path / "page.html", results.place, results=results).words
    assert "provenance.signer" in page
    assert "Who vouches for it" not in page
    assert "owner ada" not in page


def test_without_a_key_nothing_is_checked(
    results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "none"))
    page = report(tmp_path / "page.html", results.place).words
    assert "not checked" in page
    assert "owner ada" not in page
    assert not (tmp_path / "none").exists()


def test_a_failed_build_shows_the_failing_lines_first(tmp_path: Path) -> None:
    place = tmp_path / "failed"
    place.mkdir()
    (place / "state.log").write_text(STATES)
    (place / "build.log").write_text("ok\nhello.c:3: error: expected ';'\nok\n" + "x\n" * 50)
    page = report(tmp_path / "page.html", place).words
    assert "the build failed" in page
    assert page.index("build.log: hello.c:3: error: expected ';'") < page.index("Timeline")
    assert "chroot init 20.0 s" in page
    assert "run not ended" in page


def test_a_failure_that_no_line_names_shows_the_last_ones(tmp_path: Path) -> None:
    place = tmp_path / "failed"
    place.mkdir()
    (place / "build.log").write_text("".join(f"step {number}\n" for number in range(99)))
    page = report(tmp_path / "page.html", place).words
    before = page.partition("Files and sizes")[0]
    assert "build.log: step 98" in before
    assert "step 83 " not in before


def test_duplicates_stand_side_by_side(results: Results, tmp_path: Path) -> None:
    shutil.copytree(results.place, tmp_path / "other")
    shutil.copy(results.path("two-1-1.noarch.rpm"), tmp_path / "other" / "one-1-1.noarch.rpm")
    page = report(tmp_path / "page.html", results.place, tmp_path / "other", results=results).words
    assert "2 builds side by side" in page
    assert page.index("the builds do not agree 1 of 2 packages differ") < page.index("verified: ")
    assert "L0: the same file" in page
    assert "NAME (1000)" in page


def test_unlike_builds_are_not_compared(results: Results, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    page = report(tmp_path / "page.html", results.place, tmp_path / "other", results=results).words
    assert "not compared" in page
    assert "has no packages" in page


def test_a_large_log_is_cut_and_a_pipe_not_waited_for(results: Results, tmp_path: Path) -> None:
    (results.place / "build.log").write_bytes(b"first\n" + b"y" * (4 << 20) + b"\nlast\n")
    os.mkfifo(results.place / "pipe.log")
    (results.place / "link.log").symlink_to("/etc/passwd")
    page = report(tmp_path / "page.html", results.place, results=results).words
    assert "2.8 MiB are left out here" in page
    assert "last" in page
    assert "root:x:" not in page
    assert page.count("cannot be shown") == 2
    assert (tmp_path / "page.html").stat().st_size < 100_000


def test_the_page_does_not_go_among_the_results(
    results: Results, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(results.place), "-o", str(results.place / "page.html")]) == 5
    assert "verify would refuse a file" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "none"), "-o", str(tmp_path / "page.html")]) == 50
    assert not (tmp_path / "page.html").exists()


def test_compare_writes_a_page(
    results: Results, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = shutil.copytree(results.place, tmp_path / "<b>other")
    shutil.copy(results.path("two-1-1.noarch.rpm"), other / "one-1-1.noarch.rpm")
    output = tmp_path / "page.html"
    assert main(["compare", str(results.place), str(other), "--html", str(output)]) == 1
    page = _Reader(output.read_text())
    assert page.tags <= TAGS
    assert "not the same build1 of 2 packages differ" in page.words
    assert "<b>other" in page.text
    assert capsys.readouterr().out.startswith("not the same build: 1 of 2 packages do not agree")
