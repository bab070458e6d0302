# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab's parts that need no lab: which packages are chosen, and how progress is shown."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.lab import debian, steps
from tests.lab.debian import DebianPackage, parse_control
from tests.lab.layout import LabError
from tests.lab.rpmspec import files_line, link

NONE: frozenset[str] = frozenset()


def package(name: str, *, depends: str = "", provides: str = "") -> DebianPackage:
    return parse_control(
        f"Package: {name}\nVersion: 1\nArchitecture: amd64\nDescription: words\n"
        f"Depends: {depends}\nProvides: {provides}\n"
    )


def by_name(*packages: DebianPackage) -> dict[str, DebianPackage]:
    return {one.name: one for one in packages}


def test_a_library_is_found_by_who_needs_it_whatever_this_release_calls_it() -> None:
    known = by_name(
        package("ssh", depends="libssl3 (>= 3.0)"),
        package("libssl3t64", provides="libssl3 (= 3.5)"),
    )
    closure = debian.close(known, ("ssh",), left_out=NONE, not_required={})
    assert closure.requires["ssh"] == ("libssl3t64",)
    # A seed, too, may be what another package provides.
    closure = debian.close(known, ("libssl3",), left_out=NONE, not_required={})
    assert list(closure.packages) == ["libssl3t64"]


def test_what_a_fetched_package_needs_is_fetched_too() -> None:
    archive = by_name(package("netcat-openbsd", depends="libbsd0"), package("libbsd0"))
    asked: list[str] = []

    def fetch(name: str) -> dict[str, DebianPackage]:
        asked.append(name)
        return {name: archive[name]}

    known = by_name(package("cloud-init", depends="netcat-openbsd | netcat, locales"))
    closure = debian.close(
        known, ("cloud-init",), left_out=NONE,
        not_required={"cloud-init": frozenset({"locales"})}, fetch=fetch,
    )  # fmt: skip
    assert set(closure.packages) == {"cloud-init", "netcat-openbsd", "libbsd0"}
    assert asked == ["netcat-openbsd", "libbsd0"]


def test_a_package_that_is_nowhere_is_named() -> None:
    known = by_name(package("ssh", depends="libssl3 | libssl"))
    with pytest.raises(LabError, match=r"ssh depends on libssl3 \| libssl: not installed"):
        debian.close(known, ("ssh",), left_out=NONE, not_required={})
    with pytest.raises(LabError, match="not installed: absent"):
        debian.close(known, ("absent",), left_out=NONE, not_required={})


def test_paths_in_a_spec_are_patterns_that_fit_them_alone() -> None:
    # Quotes would make them literal from rpm 4.20 on, and patterns before.
    assert files_line(link("/usr/bin/[", "test")).endswith(" /usr/bin/[[]")
    assert files_line(link("/a b/50%", "c")).endswith(" /a?b/50%%")


def test_a_step_that_fails_shows_the_end_of_its_output(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log/step.log"
    program = "for number in range(99): print('line', number)\nraise SystemExit(3)"
    with pytest.raises(LabError, match="ended with 3") as caught, steps.step("a step"):
        steps.run_logged([sys.executable, "-c", program], log)
    assert str(log) in (caught.value.hint or "")
    shown = capfd.readouterr()
    assert re.findall(r"line \d+", shown.err) == [f"line {number}" for number in range(59, 99)]
    assert shown.out == "lab: a step …\n"


def test_a_step_that_succeeds_says_nothing_of_its_output(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with steps.step("a step"):
        steps.run_logged([sys.executable, "-c", "print('words')"], tmp_path / "log")
    assert re.fullmatch(r"lab: a step …\nlab: a step: done, \d+ s\n", capfd.readouterr().out)
    assert (tmp_path / "log").read_text() == "words\n"
