# SPDX-License-Identifier: GPL-2.0-or-later
"""mock-cloud's own source package, built by mock-cloud on an attested node."""

from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mock_cloud import __version__
from tests.lab.layout import repository_root

if TYPE_CHECKING:
    from conftest import User

pytestmark = pytest.mark.lab

_PARTS = (
    "LICENSE",
    "README.md",
    "docs",
    "etc",
    "mock-plugins",
    "mock_cloud",
    "pyproject.toml",
    "setup.py",
)


def _source_package(place: Path) -> Path:
    """As `make rpm` makes it, but from the working tree: a test is of what stands there."""
    top = repository_root()
    with tarfile.open(place / f"mock-cloud-{__version__}.tar.gz", "w:gz") as archive:
        for part in _PARTS:
            archive.add(top / part, f"mock-cloud-{__version__}/{part}", filter=_no_caches)
    defines = {"_sourcedir": place, "_srcrpmdir": place, "_topdir": place}
    words = [word for key, value in defines.items() for word in ("-D", f"{key} {value}")]
    command = ["rpmbuild", "-bs", "--nodeps", *words, str(top / "mock-cloud.spec")]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "HOME": str(place)})
    return next(place.glob("*.src.rpm"))


def _no_caches(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "__pycache__" in member.name else member


def _listing(package: Path) -> list[str]:
    argv = ["rpm", "-qpl", "--nosignature", str(package)]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()


@pytest.mark.slow
def test_mock_cloud_builds_itself(mock: User, tmp_path: Path) -> None:
    results = tmp_path / "results"
    mock.mock("--resultdir", results, _source_package(tmp_path)).expect()
    listing, plugin, launcher = (
        _listing(next(results.glob(f"mock-cloud{name}-{__version__}-*.noarch.rpm")))
        for name in ("", "-plugin", "-launcher")
    )
    assert "/usr/bin/mock-cloud" in listing
    assert "/usr/bin/mock-cloud-session" in listing
    assert "/usr/share/mock-cloud/remote.py" in listing
    assert "/usr/share/mock-cloud/remotes.d/local.toml" in listing
    assert "/etc/mock/remotes.d" in listing
    assert not [path for path in listing if path.startswith("/etc/mock/remotes.d/")]
    assert any(path.endswith("/mockbuild/plugins/remote.py") for path in plugin)
    assert {"/usr/libexec/mock-cloud/bin/mock", "/etc/profile.d/mock-cloud.sh"} <= set(launcher)
    assert "/usr/bin/mock" not in [*listing, *plugin, *launcher]  # that is mock's own
    pages = {Path(path).name.partition(".")[0] for path in listing if "/man" in path}
    assert pages >= {"mock-cloud", "mock-cloud-mock", "mock-cloud-remotes"}
    modules = {
        f"mock_cloud/{path.partition('/mock_cloud/')[2]}"
        for path in listing
        if path.endswith(".py")
    }
    sources = (repository_root() / "mock_cloud").rglob("*.py")
    assert modules >= {str(path.relative_to(repository_root())) for path in sources}
