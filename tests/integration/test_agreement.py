# SPDX-License-Identifier: GPL-2.0-or-later
"""Local mock and `mock --remote local`, scenario by scenario; docs/agreement.md is the outcome.

`make agreement` runs it and writes the document; a difference without a reason fails.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mock_cloud.comparison.levels import VOLATILE_TAGS, compare_packages
from tests import squash
from tests.agreement import (
    case_packages,
    cases,
    compare,
    differences,
    packages,
    scenarios,
    table,
)
from tests.agreement.model import Difference, Observation, Outcome, Scenario, Step
from tests.agreement.sides import Side
from tests.integration import real_mock
from tests.integration.conftest import MakeUser, User
from tests.integration.real_mock import RealMock
from tests.lab import chroots
from tests.lab.http import FileServer
from tests.lab.layout import Lab, repository_root
from tests.lab.srpm import Recipe
from tests.unit.agent_rpm.oracle import given_packages

pytestmark = [pytest.mark.lab, pytest.mark.slow]

ENGINES = ("chroot", "mock")
KNOWN = (*differences.PARTICULAR, *differences.COMMON)
COMMON_IN_CASES = (*differences.COMMON, *differences.DETAILS)
KNOWN_IN_CASES = (*differences.CASES, *COMMON_IN_CASES)
DOCUMENT = repository_root() / "docs/agreement.md"
CASES_DOCUMENT = repository_root() / "docs/cases.md"
FOREIGN = [path for path in given_packages() if path.name.endswith(".src.rpm")]
WRITE = "MOCK_CLOUD_WRITE_AGREEMENT"


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A directory that mock's user can reach: pytest's own are root's."""
    made = Path(tempfile.mkdtemp(prefix="mock-cloud-agreement-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def mock(place: Path) -> RealMock:
    """mock as it is without us."""
    made = real_mock.make(place / "mock")
    made.plugin.unlink()
    # A wrapper would not be looked into for the mock to send.
    program = made.script.with_name("mock")
    program.write_text(f"#!{made.python}\n{made.script.read_text()}")
    return made


@pytest.fixture(scope="module")
def known(place: Path, hello_srpm: Path, lab_srpm: Callable[[Recipe], Path]) -> Mapping[str, Path]:
    """Placeholders: the source packages, where everybody may read them."""
    recipes = {**packages.recipes(), **case_packages.recipes()}
    made = {name: lab_srpm(recipe) for name, recipe in recipes.items()}
    made["hello"] = hello_srpm
    (place / "srpms").mkdir()
    copies = {name: Path(shutil.copy(path, place / "srpms")) for name, path in made.items()}
    return {**copies, "squash": Path(squash.__file__)}


@pytest.fixture(scope="module")
def local(
    mock: RealMock, known: Mapping[str, Path], lab: Lab, lab_repo: FileServer
) -> Iterator[Side]:
    config = chroots.write(lab, mock.place / "etc", repository_url=f"{lab_repo.url}/dist")
    real_mock.configure(mock, config.path)
    argv = mock.argv("--configdir", config.path, "-r", config.chroot())
    argv = [*real_mock.usual_rpm(mock.place), *argv]
    names = {
        f"{mock.place}/lib": "basedir",
        str(mock.place / "mock-cache"): "cache",
        str(config.path): "configdir",
        str(known["plain"].parent): "srpms",
    }
    scratch = mock.place / "results"
    known = {**known, "config": config.path, "chroot": Path(config.chroot())}
    yield Side("local", argv, mock.environment, scratch, mock.user.pw_uid, known, names)
    mock.run("--configdir", config.path, "-r", config.chroot(), "--scrub=all").expect()


@pytest.fixture(scope="module")
def users(make_user: MakeUser) -> Mapping[str, User]:
    """One for each engine."""
    return {engine: make_user(f"agreement-{engine}") for engine in ENGINES}


@pytest.fixture(scope="module")
def remotes(
    place: Path, mock: RealMock, known: Mapping[str, Path], users: Mapping[str, User]
) -> Mapping[str, Side]:
    """The users' sides; the node of each is warm before the first test."""
    sides = {}
    for engine, user in users.items():
        remote = user.config.remote_file
        remote.write_text(remote.read_text().replace("[build]", f'[build]\nengine = "{engine}"'))
        shutil.copy(mock.place.parent / "mock/etc/logging.ini", user.config.path)
        # Where mock, which reads it as the user, can read it, too.
        config = shutil.copytree(user.config.path, place / f"etc-{engine}")
        environment = dict(user.environment)
        sudo = mock.environment.items()  # without which mock would not print a path
        environment |= {name: value for name, value in sudo if name.startswith("SUDO_")}
        if engine == "mock":
            environment["PATH"] = f"{mock.script.parent}:{environment['PATH']}"
        # Where mock's user may write, as in /var/lib/mock.
        basedir = place / f"lib-{engine}"
        basedir.mkdir()
        shutil.chown(basedir, group="mock")
        basedir.chmod(0o2775)
        with (config / "site-defaults.cfg").open("a") as stream:
            stream.write(f"config_opts['basedir'] = {str(basedir)!r}\n")
        names = {
            "/var/lib/mock": "basedir",
            str(basedir): "basedir",
            str(config): "configdir",
            str(known["plain"].parent): "srpms",
        }
        options = [str(config) if word == str(user.config.path) else word for word in user.options]
        argv = [sys.executable, "-m", "mock_cloud.launcher", *options]
        here = {**known, "config": config, "chroot": Path(user.config.chroot())}
        owner = mock.user.pw_uid
        sides[engine] = Side(engine, argv, environment, place / engine, owner, here, names)
        user.run([*argv, "--init"], env=environment).expect()
    return sides


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    """What was compared so far."""
    return []


@dataclass
class CaseOutcomes:
    """What was compared so far of the cases, and real mock's exit codes by case."""

    outcomes: list[Outcome] = field(default_factory=list)
    codes: dict[str, list[int]] = field(default_factory=dict)


@pytest.fixture(scope="module")
def case_outcomes() -> CaseOutcomes:
    return CaseOutcomes()


@pytest.mark.parametrize("scenario", scenarios.ALL, ids=lambda one: one.name)
def test_scenario(
    scenario: Scenario, local: Side, remotes: Mapping[str, Side], outcomes: list[Outcome]
) -> None:
    _, found = _compare(scenario, local, remotes, KNOWN)
    outcomes += found
    _expect_explained(found)


@pytest.fixture
def _one_node_each(remotes: Mapping[str, Side], users: Mapping[str, User]) -> Iterator[None]:
    """A case that takes a second node gives it back before the guard against leaks looks."""
    yield
    for engine in remotes:
        for row in users[engine].nodes()[1:]:
            users[engine].cloud("release", "--force", row["lease"]).expect()


@pytest.mark.usefixtures("local", "_one_node_each")
@pytest.mark.parametrize("case", cases.ALL, ids=lambda one: one.name)
def test_case(
    case: Scenario, local: Side, remotes: Mapping[str, Side], case_outcomes: CaseOutcomes
) -> None:
    here, found = _compare(case, local, remotes, KNOWN_IN_CASES)
    case_outcomes.outcomes += found
    case_outcomes.codes[case.name] = [one.code for one in here]
    _expect_explained(found)


def _compare(
    scenario: Scenario, local: Side, remotes: Mapping[str, Side], known: Sequence[Difference]
) -> tuple[list[Observation], list[Outcome]]:
    """What local mock gave, and how each remote compares."""
    sides = [local, *remotes.values()]
    # Whose process is left can be told only where one side runs at a time.
    with ThreadPoolExecutor(1 if scenario.process else len(sides)) as pool:
        here, *there = pool.map(lambda side: side.run(scenario), sides)
    return here, [
        compare.judge(scenario.name, engine, _steps(scenario, here, observed), known)
        for engine, observed in zip(remotes, there, strict=True)
    ]


def _expect_explained(found: list[Outcome]) -> None:
    left = [f"{one.engine}: {line}" for one in found for line in one.unexplained]
    assert not left, "\n".join(left)


def _steps(
    scenario: Scenario, here: list[Observation], there: list[Observation]
) -> Iterator[tuple[str, list[str]]]:
    for step, one, other in zip(scenario.steps, here, there, strict=True):
        yield str(step), compare.differences(one, other)


@pytest.mark.parametrize("source", packages.COMPARED)
def test_packages_agree(
    source: str, local: Side, remotes: Mapping[str, Side], outcomes: list[Outcome]
) -> None:
    build = Scenario(f"L1 {source}", "", (Step(("--resultdir", "<results>", f"<{source}>")),))
    sides = [local, *remotes.values()]
    with ThreadPoolExecutor(len(sides)) as pool:
        ended = [one for (one,) in pool.map(lambda side: side.run(build), sides)]
    assert [one.code for one in ended] == [0] * len(sides)
    built = {side.name: _packages(side.place(build.name) / "results") for side in sides}
    for engine in remotes:
        assert built[engine].keys() == built["local"].keys()
        found = [
            (name, _find_differences(data, built[engine][name]))
            for name, data in sorted(built["local"].items())
        ]
        outcomes.append(compare.judge(source, engine, found, KNOWN))
    left = [line for one in outcomes[-len(remotes) :] for line in one.unexplained]
    assert not left, "\n".join(left)


@pytest.mark.skipif(not FOREIGN, reason="no real packages ($MOCK_CLOUD_TEST_PACKAGES)")
@pytest.mark.parametrize("path", FOREIGN, ids=lambda path: path.name)
def test_source_packages_of_other_rpms_end_alike(
    path: Path, place: Path, local: Side, remotes: Mapping[str, Side]
) -> None:
    """Of rpm 6, of rpm before 4.14, damaged ones: by exit code, errors and packages."""
    copy = Path(shutil.copy(path, place / "srpms"))
    build = Scenario(f"other rpm {path.name}", "", (Step(("--resultdir", "<results>", str(copy))),))
    sides = [local, *remotes.values()]
    with ThreadPoolExecutor(len(sides)) as pool:
        here, *there = [one for (one,) in pool.map(lambda side: side.run(build), sides)]
    assert [one.code for one in there] == [here.code] * len(there)
    expected = _packages(local.place(build.name) / "results")
    for engine, observed in zip(remotes, there, strict=True):
        # What is plainly damaged is refused before there is a node, in words of our own.
        if not any(line.startswith("CRITICAL") for line in observed.messages):
            assert _errors(observed) == _errors(here)
        built = _packages(remotes[engine].place(build.name) / "results")
        assert built.keys() == expected.keys()
        for name, data in expected.items():
            assert _find_differences(data, built[name]) == ()


def _errors(observed: Observation) -> list[str]:
    return [line for line in observed.messages if line.startswith("ERROR")]


def _find_differences(left: bytes, right: bytes) -> tuple[str, ...]:
    return compare_packages(io.BytesIO(left), io.BytesIO(right)).differences


def _packages(results: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in results.glob("*.rpm")}


def test_the_document_says_what_was_seen(outcomes: list[Outcome]) -> None:
    subjects = [one.name for one in scenarios.ALL] + list(packages.COMPARED)
    seen = {(one.subject, one.engine) for one in outcomes}
    if seen != {(subject, engine) for subject in subjects for engine in ENGINES}:
        pytest.skip("only some scenarios were run")
    text = table.render(
        scenarios.ALL, packages.COMPARED, ENGINES, outcomes, differences.COMMON, VOLATILE_TAGS
    )
    if os.environ.get(WRITE):
        DOCUMENT.write_text(text)
    assert [one.subject for one in outcomes if one.unexplained] == []
    used = {one for outcome in outcomes for one in outcome.explained}
    assert [one.reason for one in KNOWN if one not in used] == []  # no reason without a difference
    assert DOCUMENT.read_text() == text, f"make agreement writes it: {WRITE}=1"


def test_the_document_of_cases_says_what_was_seen(case_outcomes: CaseOutcomes) -> None:
    if case_outcomes.codes.keys() != {one.name for one in cases.ALL}:
        pytest.skip("only some cases were run")
    outcomes, codes = case_outcomes.outcomes, case_outcomes.codes
    text = table.render_cases(cases.ALL, ENGINES, outcomes, codes, COMMON_IN_CASES)
    if os.environ.get(WRITE):
        CASES_DOCUMENT.write_text(text)
    assert [one.subject for one in outcomes if one.unexplained] == []
    used = {one for outcome in outcomes for one in outcome.explained}
    assert [one.reason for one in differences.CASES if one not in used] == []
    assert CASES_DOCUMENT.read_text() == text, f"make cases writes it: {WRITE}=1"
