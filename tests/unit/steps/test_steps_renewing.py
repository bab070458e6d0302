# SPDX-License-Identifier: GPL-2.0-or-later
"""After mock's own plugins: a provenance is signed for what became of the files, or it is gone."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from mock_cloud.cli import main
from mock_cloud.console import Console
from mock_cloud.settings import AttestSettings, ProvenanceSettings, Remote
from mock_cloud.steps.sign.renewing import renew_provenance
from tests.mutations.cases import LOG, ONE, _flip, _signature_alone
from tests.mutations.honest import Results, can_build, make_results, private_key

pytestmark = pytest.mark.skipif(not can_build(), reason="needs rpmbuild")


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return make_results(tmp_path / "results")


@pytest.fixture
def renew(results: Results, tmp_path: Path) -> Callable[[], str]:
    """Signs anew with the builder's key; what was said."""
    key = tmp_path / "key"
    key.write_bytes(private_key("builder"))
    remote = Remote(
        "lent", "ssh", ("x86_64",), AttestSettings(None, (), ()),
        provenance=ProvenanceSettings(key=key),
    )  # fmt: skip

    def act() -> str:
        said = io.StringIO()
        renew_provenance(results.place, remote, Console(stream=said))
        return said.getvalue()

    return act


def test_a_package_that_was_signed_is_signed_for(
    results: Results, renew: Callable[[], str], capsys: pytest.CaptureFixture[str]
) -> None:
    results.change(ONE, _signature_alone)
    assert main(results.argv()) == 77
    assert renew() == ""
    assert main(results.argv()) == 0, capsys.readouterr()


@pytest.mark.parametrize(
    ("suffix", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)]
)
def test_a_log_that_was_packed_is_signed_for(
    results: Results,
    renew: Callable[[], str],
    suffix: str,
    pack: Callable[[bytes], bytes],
    capsys: pytest.CaptureFixture[str],
) -> None:
    log = results.path(LOG)
    results.path(f"{LOG}{suffix}").write_bytes(pack(log.read_bytes()))
    log.unlink()
    assert renew() == ""
    assert main(results.argv()) == 0, capsys.readouterr()


def test_repository_data_that_was_made_is_signed_for(
    results: Results, renew: Callable[[], str], capsys: pytest.CaptureFixture[str]
) -> None:
    results.path("repodata").mkdir()
    results.path("repodata/repomd.xml").write_text("<repomd/>")
    assert renew() == ""
    assert main(results.argv()) == 0, capsys.readouterr()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda r: r.change(ONE, _flip(-20)), f"{ONE} is not what was built"),
        (lambda r: r.change(LOG, _flip(3)), f"{LOG} has changed"),
        (lambda r: r.path(LOG).unlink(), f"{LOG} has changed or is gone"),
        (lambda r: r.path(f"{LOG}.gz").write_bytes(gzip.compress(b"")) and r.path(LOG).unlink(),
         f"{LOG} has changed or is gone"),
        (lambda r: r.sign(by="stranger"), "the results are refused"),
    ],
)  # fmt: skip
def test_what_is_not_what_was_built_has_no_provenance(
    results: Results, renew: Callable[[], str], spoil: Callable[[Results], object], said: str
) -> None:
    spoil(results)
    assert said in renew()
    assert not results.file.exists()


def test_where_there_is_none_nothing_is_done(results: Results, renew: Callable[[], str]) -> None:
    results.file.unlink()
    assert renew() == ""
    assert not results.file.exists()
