# SPDX-License-Identifier: GPL-2.0-or-later
"""The packed toolkit: small, the same each time, and running on nothing of the node's."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from measure_support import needs, needs_root

from mock_cloud.agent.measure import processes as agent_processes
from mock_cloud.model import Toolkit
from mock_cloud.toolkit import contents, origin
from mock_cloud.toolkit.pack import pack_toolkit
from mock_cloud.wire import frames
from tests.records import joined
from tests.tars import unpack_own

NODE_PLACE = "var/lib/mock-cloud/toolkit"
_ENV = {"LC_ALL": "C"}


def _interpreters() -> list[Any]:
    """This one; another one of the system's by make test-slow."""
    found = [pytest.param(origin.base_python(), id="own")]
    system = Path("/usr/bin/python3").resolve()
    if system.exists() and system != origin.base_python():
        found.append(pytest.param(system, id="system", marks=pytest.mark.slow))
    return found


@pytest.fixture(scope="module", params=_interpreters())
def python(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


@pytest.fixture(scope="module")
def toolkit(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Toolkit:
    return pack_toolkit(tmp_path_factory.mktemp("toolkits"), python)


@pytest.fixture
def node(toolkit: Toolkit, tmp_path: Path) -> Path:
    """An empty root that holds the toolkit where a node has it, and empty /proc and /dev."""
    place = tmp_path / toolkit.node_dir.lstrip("/")
    place.mkdir(parents=True)
    unpack_own(toolkit.archive, place)
    for name in ("proc", "dev"):
        (tmp_path / name).mkdir()
    return tmp_path


def _in_node(node: Path, argv: list[str], before: str = "") -> subprocess.CompletedProcess[bytes]:
    """Run `argv` chrooted to `node`, with /proc, in namespaces of its own."""
    script = f'mount -t proc proc "$0/proc"; {before} exec chroot "$0" "$@"'
    return subprocess.run(
        ["unshare", "-m", "-p", "-f", "sh", "-ec", script, str(node), *argv],
        env={**_ENV, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=600,
        check=False,
    )


@pytest.mark.slow
def test_the_archive_is_what_its_description_says(toolkit: Toolkit) -> None:
    assert hashlib.sha256(toolkit.archive.read_bytes()).hexdigest() == toolkit.digest
    seen = {}
    with tarfile.open(toolkit.archive) as tar:
        for member in tar:
            assert member.isfile()
            assert (member.mtime, member.uid, member.gid) == (0, 0, 0)
            data = tar.extractfile(member)
            assert data is not None
            digest = hashlib.sha256(data.read()).hexdigest()
            seen[member.name] = (member.mode, member.size, digest)
    assert seen == {
        name: (one.mode, one.size_bytes, one.sha256) for name, one in toolkit.files.items()
    }
    assert {"ld.so", "bin/python3", "agent/main.py", "agent/mock_cloud/__init__.py"} <= seen.keys()


def test_it_is_small(toolkit: Toolkit) -> None:
    """What is Python's own grows with it: 11.1 MB with 3.13, 12.4 with 3.14."""
    assert toolkit.archive.stat().st_size < 13_000_000
    modules = [one.size_bytes for name, one in toolkit.files.items() if name.endswith(".pyc")]
    assert sum(modules) < 6_500_000


@pytest.mark.slow
def test_the_same_inputs_make_the_same_archive(
    toolkit: Toolkit, python: Path, tmp_path: Path
) -> None:
    assert pack_toolkit(tmp_path, python).digest == toolkit.digest


@pytest.mark.slow
def test_the_cache_is_used_until_an_input_changes(tmp_path: Path) -> None:
    first = pack_toolkit(tmp_path)
    made = first.archive.stat().st_mtime_ns
    assert pack_toolkit(tmp_path) == first
    assert first.archive.stat().st_mtime_ns == made
    (index,) = tmp_path.glob("*.json")
    facts = json.loads(index.read_bytes())
    facts["origin"]["inputs"][0][2] += 1  # as if a library had been updated since
    index.write_text(json.dumps(facts))
    assert pack_toolkit(tmp_path) == first
    assert first.archive.stat().st_mtime_ns > made


@pytest.mark.slow
def test_a_damaged_index_or_archive_is_made_anew(tmp_path: Path) -> None:
    first = pack_toolkit(tmp_path)
    (index,) = tmp_path.glob("*.json")
    index.write_text("{")
    assert pack_toolkit(tmp_path) == first
    first.archive.write_bytes(b"cut")
    assert pack_toolkit(tmp_path) == first
    assert hashlib.sha256(first.archive.read_bytes()).hexdigest() == first.digest


@needs_root
@needs("unshare", "chroot")
def test_it_measures_in_an_empty_root(toolkit: Toolkit, node: Path) -> None:
    done = _in_node(node, toolkit.argv("measure", "--nonce", "abc"))
    assert done.returncode == 0, done.stderr.decode()
    found = joined(done.stdout)
    assert (found["nonce"], found["unreadable"]) == ("abc", [])
    rows = {row[0]: row for row in found["files"]}
    for name, one in toolkit.files.items():
        row = rows[f"{toolkit.node_dir}/{name}"]
        assert [row[1], row[2], row[5], row[6]] == ["f", one.mode, one.size_bytes, one.sha256]
    (own,) = (one for one in found["processes"] if one["pid"] == found["self"])
    assert own["exe"] == f"{toolkit.node_dir}/ld.so"
    assert {path.rsplit(f"{toolkit.node_dir}/", 1)[-1] for path, _, _ in own["maps"]} <= {
        *toolkit.files
    }


@needs_root
@needs("unshare", "chroot")
def test_every_module_of_the_agent_can_be_imported_there(toolkit: Toolkit, node: Path) -> None:
    modules = [
        name.removeprefix("agent/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for name in toolkit.files
        if name.startswith("agent/mock_cloud/") and name.endswith(".py")
    ]
    modules = [name for name in modules if not name.endswith("__main__")]
    assert {agent_processes.__name__, frames.__name__} <= {*modules}
    place = f"{toolkit.node_dir}/agent"
    code = f"import sys, importlib; sys.path.insert(0, {place!r}); "
    code += f"[importlib.import_module(name) for name in {modules!r}]"
    argv = toolkit.argv()
    done = _in_node(node, [*argv[:-1], "-c", code])
    assert done.returncode == 0, done.stderr.decode()


@needs_root
@needs("strace", "unshare", "chroot")
def test_no_file_of_the_node_is_opened(toolkit: Toolkit, tmp_path: Path) -> None:
    """Run where a whole system lies around it, and watch every call that takes a path."""
    place = tmp_path / "toolkit"
    place.mkdir()
    unpack_own(toolkit.archive, place)
    argv = [word.replace(toolkit.node_dir, str(place)) for word in toolkit.argv()]
    work = str(tmp_path / "work")
    (tmp_path / "work").mkdir()
    log = tmp_path / "strace"
    strace = ["strace", "-f", "-qq", "-e", "trace=%file", "-s", "4096", "-o", str(log)]
    for words in (
        ["measure", "--root", work, "--out", "/dev/null"],
        ["serve", "--workspace", work],
    ):
        done = subprocess.run(
            [*strace, *argv, *words],
            env=_ENV,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0
        # Below a directory that was opened before, the kernel resolves from there.
        calls = re.sub(r"openat2\(\d+, [^\n]*", "", log.read_text())
        asked = set(re.findall(r'"(/[^"]*)"', calls))
        assert len(asked) > 50
        allowed = (str(tmp_path), "/proc/", "/dev/null", "/sys/devices/system/cpu/")
        above = {str(parent) for parent in tmp_path.parents}  # sysconfig resolves where it lies
        assert [path for path in sorted(asked - above) if not path.startswith(allowed)] == []


def _maps(done: subprocess.CompletedProcess[bytes]) -> set[str]:
    assert done.returncode == 0, done.stderr.decode()
    found = joined(done.stdout)
    (own,) = (one for one in found["processes"] if one["pid"] == found["self"])
    return {path for path, _, _ in own["maps"]}


@needs_root
@needs("unshare", "chroot")
def test_a_preloaded_library_of_the_node_stays_out(toolkit: Toolkit, node: Path) -> None:
    """/etc/ld.so.preload: the unconfined loader would take it, ours does not."""
    libraries = node / toolkit.node_dir.lstrip("/") / "lib"
    shutil.copy(libraries / "libgcc_s.so.1", node / "evil.so")
    (node / "etc").mkdir()
    (node / "etc/ld.so.preload").write_text("/evil.so\n")
    words = ("measure", "--skip", "/var")
    assert "/evil.so" not in _maps(_in_node(node, toolkit.argv(*words)))
    loader = node / toolkit.node_dir.lstrip("/") / "ld.so"
    shutil.copy(contents.elf.find_loader(origin.base_python()), loader)
    assert "/evil.so" in _maps(_in_node(node, toolkit.argv(*words)))


@needs_root
@needs("unshare", "chroot")
def test_python_takes_no_library_of_the_node(toolkit: Toolkit, node: Path) -> None:
    """Archives and settings where python would look for them, above and beside the toolkit."""
    major_minor = "".join(toolkit.python_version.split(".")[:2])
    for place in ("lib", "var/lib", "var/lib/mock-cloud/lib", f"{NODE_PLACE}/lib"):
        (node / place).mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(node / place / f"python{major_minor}.zip", "w") as planted:
            planted.writestr("json/__init__.py", "raise SystemExit('taken over')")
            planted.writestr("os.py", "raise SystemExit('taken over')")
    done = _in_node(node, toolkit.argv("measure", "--skip", "/var"))
    assert done.returncode == 0, done.stderr.decode()


@needs_root
@needs("unshare", "chroot")
def test_a_wrong_locale_is_refused(toolkit: Toolkit, node: Path) -> None:
    argv = toolkit.argv("measure")
    # Latin-1 by the interpreter's own switch: any other way needs a locale's files.
    done = _in_node(node, [*argv[:7], "-X", "utf8=0", *argv[7:]])
    assert done.returncode == 1
    assert b"LC_ALL=C" in done.stderr


def test_another_place_is_no_part_of_the_digest(toolkit: Toolkit) -> None:
    moved = replace(toolkit, archive=Path("/elsewhere"))
    assert moved.argv("serve") == toolkit.argv("serve")
