# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock-cloud compare`: what is paired in directories, what is refused, what is printed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from mock_cloud.cli import main
from mock_cloud.comparison.levels import Level
from mock_cloud.comparison.pairs import compare_builds
from mock_cloud.errors import EXIT_USAGE, InputError

pytestmark = pytest.mark.skipif(not shutil.which("rpmbuild"), reason="needs rpmbuild")

SPEC = """\
Name: {name}
Version: 1
Release: 1
Summary: Built for a comparison
License: CC0-1.0
BuildArch: noarch
%description
Built for a comparison.
%install
mkdir -p %{{buildroot}}/usr/share/{name}
echo {word} > %{{buildroot}}/usr/share/{name}/word
%files
/usr/share/{name}
"""
Build = Callable[..., Path]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Builds packages with the word into a directory of results; each build has its own time."""
    count = 0

    def make(word: str, *names: str) -> Path:
        nonlocal count
        count += 1
        top = tmp_path_factory.mktemp("build")
        results = top / "results"
        results.mkdir()
        for name in names:
            (top / f"{name}.spec").write_text(SPEC.format(name=name, word=word))
            defines = {
                "_topdir": str(top), "_rpmdir": str(results), "_rpmfilename": "%{NAME}.rpm",
                "use_source_date_epoch_as_buildtime": "1", "source_date_epoch_from_changelog": "0",
            }  # fmt: skip
            argv = ["rpmbuild", "-bb", "--quiet", "--nodeps"]
            for key, value in defines.items():
                argv += ["--define", f"{key} {value}"]
            env = {**os.environ, "SOURCE_DATE_EPOCH": str(1_600_000_000 + 3600 * count)}
            subprocess.run([*argv, str(top / f"{name}.spec")], check=True, env=env)
        return results

    return make


@pytest.fixture(scope="module")
def builds(build: Build) -> SimpleNamespace:
    return SimpleNamespace(
        first=build("good", "one", "two"),
        again=build("good", "one", "two"),
        lying=build("evil", "one", "two"),
        lacking=build("good", "one"),
        other=build("good", "three"),
    )


def test_each_package_is_paired_with_its_namesake(builds: SimpleNamespace) -> None:
    found = compare_builds(builds.first, [builds.again, builds.lying])
    assert [(one.package, one.other, one.agrees) for one in found] == [
        ("one.rpm", builds.again, True), ("two.rpm", builds.again, True),
        ("one.rpm", builds.lying, False), ("two.rpm", builds.lying, False),
    ]  # fmt: skip
    assert "/usr/share/one/word" in found[2].sameness.differences


@pytest.mark.parametrize("turned", [False, True])
def test_a_package_that_is_only_in_one_does_not_agree(
    builds: SimpleNamespace, turned: bool
) -> None:
    sides = [builds.first, builds.lacking]
    left, right = reversed(sides) if turned else sides
    found = compare_builds(left, [right])
    assert [one.agrees for one in found] == [True, False]
    assert found[1].sameness.differences == (f"only in {builds.first}",)


def test_files_agree_whatever_they_are_called(builds: SimpleNamespace, tmp_path: Path) -> None:
    copy = Path(shutil.copy(builds.first / "one.rpm", tmp_path / "renamed"))
    (found,) = compare_builds(builds.first / "one.rpm", [copy])
    assert found.sameness.level is Level.SAME_FILE


def test_unlike_things_are_refused_and_named(builds: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.rpm").write_text("no package")
    package = builds.first / "one.rpm"
    for left, right, words in (
        (package, builds.first / "two.rpm", "one-1-1.noarch .* two-1-1.noarch"),
        (package, builds.first, "is a file and .* is a directory"),
        (builds.first, builds.other, "namesake"),
        (builds.first, tmp_path / "empty", "has no packages"),
        (builds.first, tmp_path / "nothing", "no such file"),
        (package, tmp_path / "text.rpm", "text.rpm: no lead of an RPM package"),
        (tmp_path / "text.rpm", package, "text.rpm: no lead of an RPM package"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=words):
            compare_builds(left, [right])


def test_a_name_that_stands_twice_is_refused(builds: SimpleNamespace, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        shutil.copy(builds.first / "one.rpm", tmp_path / name)
    with pytest.raises(InputError, match="two packages one"):
        compare_builds(tmp_path, [builds.first])
    (tmp_path / "b/one.rpm").unlink()
    (tmp_path / "b/one.rpm").hardlink_to(tmp_path / "a/one.rpm")  # one file with two names
    assert len(compare_builds(tmp_path, [builds.first])) == 2


def test_the_command_ends_with_0_only_if_all_agree(
    builds: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    first, again, lying = (str(one) for one in (builds.first, builds.again, builds.lying))
    assert main(["compare", first, again]) == 0
    assert capsys.readouterr().out.startswith("the same build: 2 packages agree (L1 2)\n")
    assert main(["compare", first, again, lying]) == 1
    out = capsys.readouterr().out
    assert out.startswith("not the same build: 2 of 4 packages do not agree (L1 2, differ 2)\n")
    assert "/usr/share/one/word" in out
    assert main(["compare", "--json", first, lying]) == 1
    rows = json.loads(capsys.readouterr().out)
    assert [(row["package"], row["level"], row["agrees"]) for row in rows] == [
        ("one.rpm", "differ", False), ("two.rpm", "differ", False),
    ]  # fmt: skip
    assert main(["compare", first, f"{first}/one.rpm"]) == EXIT_USAGE


def test_the_difference_is_shown_by_diffoscope(
    builds: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["compare", "--diff", str(builds.first), str(builds.lying)]
    if not shutil.which("diffoscope"):
        assert main(argv) == EXIT_USAGE
        assert "diffoscope" in capsys.readouterr().err
        pytest.skip("no diffoscope: only that this is said was seen")
    assert main(argv) == 1
    out = capsys.readouterr().out
    assert f"--- {builds.first}/one.rpm\n+++ {builds.lying}/one.rpm\n" in out
