# SPDX-License-Identifier: GPL-2.0-or-later
"""What Koji's programs need of this machine, and the two virtual environments that are kept.

Koji itself is a checkout that MOCK_CLOUD_TEST_KOJI names, and is installed nowhere: its programs
run from it. MOCK_CLOUD_TEST_KOJI_STATE names the directory of what is kept; without it that is in
the lab.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import subprocess
from pathlib import Path

from tests.lab.layout import repository_root, stamp_matches
from tests.lab.steps import run_logged, step

PYTHON = "/usr/bin/python3"  # the one that has Debian's rpm and dnf
HUB_USER, DATABASE_USER = "www-data", "postgres"
_PIP = ("install", "--quiet", "--disable-pip-version-check")
_IMPORTED = ("psycopg2-binary", "CT3", "python-multilib", "gunicorn", "psutil", "defusedxml")
_COMMANDS = {"createrepo_c": "createrepo-c", "mergerepo_c": "createrepo-c", "git": "git",
             "rpm": "rpm", "apt-get": "Debian's apt"}  # fmt: skip


def checkout() -> Path:
    """Koji's; see `find_missing`."""
    return Path(os.environ["MOCK_CLOUD_TEST_KOJI"])


def state_directory() -> Path:
    given = os.environ.get("MOCK_CLOUD_TEST_KOJI_STATE")
    return Path(given) if given else repository_root() / ".lab/koji"


def postgres() -> Path | None:
    """The directory of Postgres' server programs, the newest there is."""
    found = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    return max(found, key=lambda path: int(path.parts[-3]), default=Path()).parent or None


def find_missing() -> str | None:
    """Why there can be no Koji on this machine; None if there can."""
    named = os.environ.get("MOCK_CLOUD_TEST_KOJI")
    if not named:
        return "needs a checkout of koji: KOJI=…"
    if not Path(named, "kojihub/kojixmlrpc.py").is_file():
        return f"{named} is not a checkout of koji"
    if os.geteuid() != 0:
        return "needs root: builders are namespaces"
    lacking = {package for command, package in _COMMANDS.items() if not shutil.which(command)}
    if not next(Path("/usr/lib/postgresql").glob("*/bin/postgres"), None):
        lacking.add("postgresql")
    for name in (HUB_USER, DATABASE_USER):
        try:
            pwd.getpwnam(name)
        except KeyError:
            lacking.add(f"the user {name}")
    if lacking:
        return f"not installed: {', '.join(sorted(lacking))}"
    closed = _closed(Path(named)) or _closed(state_directory())
    if closed:
        return (f"{closed} is closed to the users of database, hub and builders:"
                " set MOCK_CLOUD_TEST_KOJI_STATE to a directory elsewhere")  # fmt: skip
    return None


def _closed(path: Path) -> Path | None:
    above = (one for one in (path, *path.absolute().parents) if one.is_dir())
    return next((one for one in above if not one.stat().st_mode & 0o001), None)


def make_hub_python() -> Path:
    """The environment of hub, kojid, kojira and the command koji."""
    place = state_directory() / "python"
    if _is_made(place, " ".join(_IMPORTED)):
        return place
    with step(f"pip installs what Koji imports into {place}"):
        log = state_directory() / "pip.log"
        shutil.rmtree(place, ignore_errors=True)
        run_logged([PYTHON, "-m", "venv", "--system-site-packages", str(place)], log)
        run_logged([str(place / "bin/pip"), *_PIP, *_IMPORTED], log)
        _add_librepo(place, log)
    (place / "made").write_text(" ".join(_IMPORTED))
    return place


def make_product() -> Path:
    """mock-cloud as docs/koji.md has it installed, from this checkout as it is now."""
    place = state_directory() / "mock-cloud"
    log = state_directory() / "pip.log"
    pip = [str(place / "bin/pip"), *_PIP]
    needs = hashlib.sha256((repository_root() / "pyproject.toml").read_bytes()).hexdigest()
    code, source = _digest_product(), str(repository_root())
    if not _is_made(place, needs):
        with step(f"pip installs mock-cloud into {place}"):
            shutil.rmtree(place, ignore_errors=True)
            run_logged([PYTHON, "-m", "venv", str(place)], log)
            run_logged([*pip, source, "setuptools", "wheel"], log)
        (place / "made").write_text(needs)
    elif not stamp_matches(place / "code", code):
        again = ["--no-deps", "--force-reinstall", "--no-build-isolation", source]
        run_logged([*pip, *again], log)
    (place / "code").write_text(code)
    return place


def _digest_product() -> str:
    """Of all that pip installs of mock-cloud."""
    total = hashlib.sha256()
    for top in ("mock_cloud", "mock-plugins", "etc"):
        for path in sorted((repository_root() / top).rglob("*")):
            if path.is_file() and path.suffix != ".pyc":
                total.update(f"{path} ".encode() + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def _is_made(place: Path, key: str) -> bool:
    return stamp_matches(place / "made", key) and (place / "bin/python").exists()


def _add_librepo(place: Path, log: Path) -> None:
    """No index has it for pip. Unpacked and not installed: another set of packages, another lab."""
    there = subprocess.run([str(place / "bin/python"), "-c", "import librepo"],
                           capture_output=True, check=False)  # fmt: skip
    if there.returncode == 0:
        return
    debs = place / "debs"
    debs.mkdir()
    run_logged(["sh", "-ec", 'cd "$0" && apt-get -q download python3-librepo', str(debs)], log)
    (package,) = debs.glob("*.deb")
    run_logged(["dpkg", "-x", str(package), str(debs)], log)
    (into,) = place.glob("lib/python3*/site-packages")
    shutil.copytree(debs / "usr/lib/python3/dist-packages/librepo", into / "librepo")
