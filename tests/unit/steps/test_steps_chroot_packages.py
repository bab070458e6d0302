# SPDX-License-Identifier: GPL-2.0-or-later
"""What stands in a provenance of a build chroot: a node's list is read strictly, else the log."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mock_cloud.config.tunnel import Repositories
from mock_cloud.errors import ResultError
from mock_cloud.steps.sign.chroot_packages import describe_repositories, list_chroot_packages
from mock_cloud.wire.chroot_packages import CHROOT_PACKAGES, ChrootPackage, ChrootPackages
from mock_cloud.wire.decode import to_json
from mock_cloud.wire.replies import ResultFile

BASH = ChrootPackage("bash-1:5.2-1.x86_64", 7, "a" * 64, "b" * 32, "fedora")


@dataclass
class Node:
    """A node with one result: what `Build` has of it."""

    data: bytes
    job: str = "job"

    @property
    def connection(self) -> Node:
        return self

    def lasting(self, act: Callable[[Any], Any]) -> Any:
        return act(self)

    def results(self, job: str) -> list[ResultFile]:
        digest = hashlib.sha256(self.data).hexdigest()
        return [ResultFile(CHROOT_PACKAGES, len(self.data), digest, 0o644)] if self.data else []

    def fetch(self, job: str, wanted: Sequence[Any]) -> None:
        for one in wanted:
            one.write(self.data)


def listed(data: bytes, place: Path = Path(), names: Sequence[str] = ()) -> Any:
    return list_chroot_packages(Node(data), place, names)  # type: ignore[arg-type]


def test_a_package_has_its_digest_and_its_repository() -> None:
    found = listed(to_json(ChrootPackages((BASH, BASH))))
    (bash,) = found.packages
    assert bash.uri == "pkg:rpm/bash@5.2-1?arch=x86_64&epoch=1"
    assert bash.digest == {"rpmHeaderSha256": "a" * 64}
    assert bash.annotations == {
        "installed": True, "buildtime": "7", "sigmd5": "b" * 32, "repository": "fedora",
    }  # fmt: skip
    assert found.not_proved == "the packages of the build chroot: the node listed them"


def test_without_a_list_the_log_counts_and_the_provenance_says_so(tmp_path: Path) -> None:
    (tmp_path / "installed_pkgs.log").write_text("bash-5.2-1.x86_64 7 100 installed\nodd\n")
    found = listed(b"", tmp_path, ["build.log", "installed_pkgs.log"])
    (bash,) = found.packages
    assert (bash.name, bash.digest) == ("bash-5.2-1.x86_64", {})
    assert found.not_proved.endswith("by names, without digests and repositories")


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"[" * 100_000,
        b'{"packages": [], "schema": "mock-cloud/chroot-packages/2"}',
        to_json(ChrootPackages((BASH,))).replace(b"a" * 64, b"a" * 63),
        to_json(ChrootPackages((BASH,))).replace(b'"fedora"', b"3"),
        b" " * ((16 << 20) + 1),
    ],
    ids=["cut", "deep", "other schema", "short digest", "wrong type", "long"],
)
def test_what_is_no_such_list_is_refused(data: bytes) -> None:
    with pytest.raises(ResultError):
        listed(data)


def test_names_that_cannot_be_shown_are_left_out() -> None:
    odd = ChrootPackage("ba\u202esh-5-1.x86_64", 7, "", "", "")
    assert listed(to_json(ChrootPackages((odd, BASH)))).packages[0].name == BASH.nevra


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://me:secret@example.org/f/$basearch?token=1", "https://example.org/f/x86_64"),
        ("file:///home/me/repo", ""),
    ],
)
def test_a_repositorys_url_says_nothing_of_the_user(url: str, said: str) -> None:
    text = f"[main]\n[fedora]\nbaseurl={url}\n[off]\nenabled=0\nbaseurl=http://x/\n"
    repositories = Repositories(text, {"basearch": "x86_64"})
    (one,) = describe_repositories(repositories, str)
    assert (one.name, one.uri, one.annotations) == ("fedora", said, {"role": "repository"})
