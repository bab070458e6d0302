# SPDX-License-Identifier: GPL-2.0-or-later
"""pytest's view of the lab: fixtures for its parts, and a guard against what tests leave.

A plugin, loaded by tests/conftest.py. Imports are late: unit tests pay nothing for it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mock_cloud.model import Toolkit
    from tests.lab.http import FileServer
    from tests.lab.layout import Lab
    from tests.lab.srpm import Recipe


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that uses the lab is marked so, whether or not its author thought of it."""
    for item in items:
        if "lab" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.lab)


def _require_lab() -> None:
    from tests.lab import prepare

    if os.geteuid() != 0:
        pytest.skip("the lab needs root: packages are installed into trees, nodes are namespaces")
    if not (prepare.is_debian() or Path("/usr/bin/dnf").exists()):
        pytest.skip("the lab needs Debian, Fedora or EL")
    absent = prepare.missing()
    if absent:
        pytest.skip(f"not installed (python -m tests.lab prepare): {' '.join(absent)}")


@pytest.fixture(scope="session")
def lab() -> Lab:
    """The lab's distribution and node tree, made first if they are not there or stale."""
    _require_lab()
    from tests.lab import dist, manifest, node
    from tests.lab.layout import default_lab, locked

    made = default_lab()
    with locked(made):
        dist.build(made)
        node.build(made)
        manifest.build(made)
    return made


@pytest.fixture(scope="session")
def packed_toolkit(cache: Path) -> Toolkit:
    """The toolkit of this Python."""
    from mock_cloud.toolkit.pack import pack_toolkit

    return pack_toolkit(cache / "mock-cloud" / "toolkits")


@pytest.fixture(scope="session")
def cache() -> Path:
    """$XDG_CACHE_HOME of whoever does not try the packing: all runs pack the toolkit once."""
    from mock_cloud.toolkit.pack import pack_toolkit
    from tests.lab.layout import default_lab, locked

    made = default_lab()
    with locked(made):
        pack_toolkit(made.root / "cache" / "mock-cloud" / "toolkits")
    return made.root / "cache"


@pytest.fixture(scope="session")
def lab_repo(lab: Lab) -> Iterator[FileServer]:
    """A server of the distribution's releases, below /dist."""
    from tests.lab.http import FileServer

    with FileServer({"/dist": lab.dist}) as server:
        yield server


@pytest.fixture(scope="session")
def lab_srpm(lab: Lab) -> Callable[[Recipe], Path]:
    """Makes a recipe of `tests.lab.srpm` into a source RPM, once for all runs."""
    from tests.lab import srpm
    from tests.lab.layout import locked

    def build(recipe: Recipe) -> Path:
        with locked(lab):
            return srpm.build(lab, recipe)

    return build


@pytest.fixture(scope="session")
def hello_srpm(lab: Lab, lab_srpm: Callable[[Recipe], Path]) -> Path:
    """GNU hello; skips where its upstream source cannot be had."""
    from tests.lab import srpm
    from tests.lab.layout import LabError

    try:
        return lab_srpm(srpm.hello(lab))
    except LabError as error:
        pytest.skip(error.message)


@pytest.fixture(scope="session")
def markupsafe_srpm(lab: Lab, lab_srpm: Callable[[Recipe], Path]) -> Path:
    """A Python package with a C extension; skips where its upstream source cannot be had."""
    from tests.lab import srpm
    from tests.lab.layout import LabError

    try:
        return lab_srpm(srpm.markupsafe(lab))
    except LabError as error:
        pytest.skip(error.message)


@pytest.fixture(scope="session")
def plain_srpm(lab_srpm: Callable[[Recipe], Path]) -> Path:
    from tests.lab import srpm

    return lab_srpm(srpm.plain())


@pytest.fixture(scope="session")
def failing_srpm(lab_srpm: Callable[[Recipe], Path]) -> Path:
    from tests.lab import srpm

    return lab_srpm(srpm.failing())


@pytest.fixture(scope="session")
def missing_requirement_srpm(lab_srpm: Callable[[Recipe], Path]) -> Path:
    from tests.lab import srpm

    return lab_srpm(srpm.missing_requirement())


@pytest.fixture(scope="session")
def sleeping_srpm(lab_srpm: Callable[[Recipe], Path]) -> Path:
    """Two minutes of ticks: longer than any test waits."""
    from tests.lab import srpm

    return lab_srpm(srpm.sleeping(120))


@pytest.fixture(scope="session")
def chain_srpms(lab_srpm: Callable[[Recipe], Path]) -> tuple[Path, Path]:
    from tests.lab import srpm

    first, second = srpm.chain()
    return lab_srpm(first), lab_srpm(second)


@pytest.fixture(scope="session")
def networkless_srpm(lab_repo: FileServer, lab_srpm: Callable[[Recipe], Path]) -> Path:
    """Fails to build where it can reach `lab_repo`, or sees any interface but lo."""
    from tests.lab import srpm

    return lab_srpm(srpm.networkless("127.0.0.1", lab_repo.port))


@pytest.fixture(scope="session")
def failing_check_srpm(lab_srpm: Callable[[Recipe], Path]) -> Path:
    from tests.lab import srpm

    return lab_srpm(srpm.failing_check())


@pytest.fixture(scope="session")
def conditional_srpm(lab_srpm: Callable[[Recipe], Path]) -> Path:
    from tests.lab import srpm

    return lab_srpm(srpm.conditional())


@pytest.fixture(scope="session")
def escaping_srpm(lab_srpm: Callable[[Recipe], Path]) -> Path:
    from tests.lab import srpm

    return lab_srpm(srpm.escaping())


@pytest.fixture(scope="session")
def large_srpm(lab_srpm: Callable[[Recipe], Path]) -> Path:
    """200 MiB that do not compress."""
    from tests.lab import srpm

    return lab_srpm(srpm.large())


@pytest.fixture(scope="session")
def _orphans_adopted() -> None:
    from tests.lab import leaks

    leaks.adopt_orphans()


@pytest.fixture(autouse=True)
def _no_leaks(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """A test marked `lab` fails if a mount, a process or a thread of it is left."""
    if request.node.get_closest_marker("lab") is None:
        yield
        return
    from tests.lab import leaks

    request.getfixturevalue("_orphans_adopted")
    before = leaks.snapshot(tmp_path_factory.getbasetemp())
    yield
    left = leaks.find_leaks(before)
    if left:
        pytest.fail("left behind:\n  " + "\n  ".join(left), pytrace=False)
