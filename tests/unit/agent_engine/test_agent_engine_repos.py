# SPDX-License-Identifier: GPL-2.0-or-later
"""Repositories of a dnf.conf: which are enabled, where they are, what revision they have."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from mock_cloud.agent.engine.errors import ConfigurationError, PackageManagerError
from mock_cloud.agent.engine.repos import Repository, fetch_revisions, parse_repositories
from mock_cloud.wire.dnf_conf import expand

CONF = """
[main]
skip_if_unavailable=1
proxy=_none_

[base]
baseurl=http://a.example/$releasever/$basearch/
  http://b.example/${releasever}/
[off]
enabled=0
baseurl=http://off.example
[must]
skip_if_unavailable=False
metalink=https://m.example/metalink?repo=x-$releasever&arch=$basearch&v=$custom
"""


def parse(text: str = CONF, **changes: object) -> list[Repository]:
    options: dict[str, object] = {
        "releasever": "40", "arch": "i686", "variables": {"custom": "C"}, "switches": [],
    }  # fmt: skip
    return parse_repositories(text, **{**options, **changes})  # type: ignore[arg-type]


def test_variables_and_defaults() -> None:
    base, must = parse()
    assert base.baseurls == ("http://a.example/40/i386", "http://b.example/40")
    assert base.skip_if_unavailable
    assert base.proxy == ""
    assert must.metalink == "https://m.example/metalink?repo=x-40&arch=i386&v=C"
    assert not must.skip_if_unavailable


def test_an_unknown_variable_stays() -> None:
    assert expand("$a$b${a}$ab", {"a": "1"}) == "1$b1$ab"


def test_switches_count_in_order() -> None:
    def names(*switches: tuple[str, str]) -> list[str]:
        return [repository.id for repository in parse(switches=switches)]

    assert names(("--enablerepo", "off")) == ["base", "off", "must"]
    assert names(("--disablerepo", "*"), ("--enablerepo", "ba*,off")) == ["base", "off"]
    assert names(("--enablerepo", "off"), ("--disablerepo", "*")) == []


def test_what_is_no_configuration_is_refused() -> None:
    with pytest.raises(ConfigurationError):
        parse("baseurl=x\n")


def _repository(where: Path, *, skip: bool = False) -> Repository:
    return Repository("r", (f"file://{where}",), "", "", skip, True, "", "")


def test_a_revision_is_the_digest_of_repomd(tmp_path: Path) -> None:
    (tmp_path / "repodata").mkdir()
    data = b"<?xml version='1.0'?><repomd/>"
    (tmp_path / "repodata/repomd.xml").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    assert fetch_revisions([_repository(tmp_path)], None) == {"r": digest}


@pytest.mark.parametrize("content", [None, b"<html>please log in</html>"])
def test_a_repository_that_cannot_be_used_is_named(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "repodata").mkdir()
        (tmp_path / "repodata/repomd.xml").write_bytes(content)
    with pytest.raises(PackageManagerError, match=f"'r' cannot be used: file://{tmp_path}"):
        fetch_revisions([_repository(tmp_path)], None)
    assert fetch_revisions([_repository(tmp_path, skip=True)], None) == {}


def test_a_metalink_has_the_revision(tmp_path: Path) -> None:
    digest = "ab" * 32
    link = tmp_path / "metalink"
    link.write_text(f'<metalink><hash type="md5">00</hash><hash type="sha256">{digest}</hash>')
    repository = Repository("m", (), "", f"file://{link}", False, True, "", "")
    assert fetch_revisions([repository], None) == {"m": digest}
