# SPDX-License-Identifier: GPL-2.0-or-later
"""A toolkit is tried before it is used: what it lacks is named here, and on no node."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from measure_support import needs, needs_root

import mock_cloud
from mock_cloud.agent.serve import Server
from mock_cloud.agent.serve_wire import Answers
from mock_cloud.errors import EXIT_CONFIG
from mock_cloud.toolkit import contents, empty_root, origin, self_test
from mock_cloud.toolkit.prove import Proof, ToolkitBroken, prove

PRODUCT = Path(mock_cloud.__file__).parent
_NOBODY = 65534


@pytest.fixture(scope="module")
def packed() -> contents.Contents:
    return contents.gather(origin.base_python())


@pytest.fixture(scope="module")
def library(packed: contents.Contents) -> str:
    return f"lib/python{'.'.join(packed.python_version.split('.')[:2])}"


@pytest.fixture
def no_process_left() -> Iterator[None]:
    before = {path.name for path in Path("/proc").iterdir() if path.name.isdigit()}
    yield
    left = [
        path.name
        for path in Path("/proc").iterdir()
        if path.name.isdigit() and path.name not in before and _runs_toolkit(path)
    ]
    assert left == []


def _runs_toolkit(process: Path) -> bool:
    """Whether a test of this file started it; others pack toolkits meanwhile."""
    try:
        is_ours = Path(__file__).name.encode() in (process / "environ").read_bytes()
        return is_ours and b"toolkit/self-test" in (process / "cmdline").read_bytes()
    except OSError:
        return False


@needs_root
@pytest.mark.usefixtures("no_process_left")
def test_a_whole_toolkit_runs_in_an_empty_root(packed: contents.Contents) -> None:
    mounts = Path("/proc/self/mountinfo").read_text()
    assert prove(packed.members) is Proof.EMPTY_ROOT
    assert Path("/proc/self/mountinfo").read_text() == mounts


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("collections/abc", "No module named 'collections.abc'"),  # imported by python's own
        ("ctypes/_endian", "No module named 'ctypes._endian'"),  # found when it is loaded
        ("encodings/unicode_escape", "unknown encoding: unicode_escape"),  # only when it is used
        ("encodings/idna", "unknown encoding: idna"),  # only in a job
    ],
)
@needs_root
@pytest.mark.usefixtures("no_process_left")
def test_what_a_list_lacks_is_named(
    packed: contents.Contents, library: str, module: str, said: str
) -> None:
    members = dict(packed.members)
    if f"{library}/{module}.pyc" not in members:
        pytest.skip(f"Python {packed.python_version} has no file for {module}")
    del members[f"{library}/{module}.pyc"]
    with pytest.raises(ToolkitBroken, match=said) as caught:
        prove(members)
    assert caught.value.exit_code == EXIT_CONFIG
    assert not caught.value.retryable
    assert caught.value.hint


def test_a_module_of_the_agent_that_it_loads_late_is_named(packed: contents.Contents) -> None:
    """An agent that runs says itself that it lacks a part."""
    late = "agent/mock_cloud/wire/reach.py"
    members = {name: one for name, one in packed.members.items() if name != late}
    members = {name: one for name, one in members.items() if "/reach." not in name}
    assert late in packed.members
    with pytest.raises(ToolkitBroken, match=r"reach: No module named 'mock_cloud\.wire\.reach'"):
        prove(members)


def test_a_missing_library_is_named(packed: contents.Contents) -> None:
    members = {name: one for name, one in packed.members.items() if name != "lib/libz.so.1"}
    if len(members) == len(packed.members):
        pytest.skip("this python has zlib built in")
    with pytest.raises(ToolkitBroken, match=r"libz\.so\.1"):
        prove(members)


@needs_root
@needs("setpriv")
def test_a_user_proves_it_too(packed: contents.Contents, tmp_path: Path) -> None:
    """In user namespaces; where there are none, in this machine's root and without jobs."""
    place = tmp_path / "toolkit"
    for name, (mode, data) in packed.members.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)
        (place / name).chmod(mode)
    shutil.copytree(PRODUCT, tmp_path / "product/mock_cloud")
    for path in (tmp_path, *tmp_path.parents):
        if path.owner() == "root" and path.name.startswith(("pytest-", "test_")):
            path.chmod(0o755)
    code = f"""
import json, sys, types
from pathlib import Path
product = {str(tmp_path / "product")!r}
sys.path.insert(0, product)
# Without what packing needs: a user may not read the libraries of whoever runs this.
package = sys.modules["mock_cloud.toolkit"] = types.ModuleType("mock_cloud.toolkit")
package.__path__ = [product + "/mock_cloud/toolkit"]
from mock_cloud.toolkit.prove import prove
place = Path({str(place)!r})
members = {{str(p.relative_to(place)): (p.stat().st_mode & 0o777, p.read_bytes())
           for p in place.rglob('*') if p.is_file()}}
print(prove(members).name)
"""
    # A python that everybody may run.
    shell = shutil.which("python3", path="/usr/bin:/bin")
    if shell is None:
        pytest.skip("needs /usr/bin/python3")
    done = subprocess.run(
        [
            "setpriv",
            f"--reuid={_NOBODY}",
            f"--regid={_NOBODY}",
            "--clear-groups",
            shell,
            "-c",
            code,
        ],
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        cwd="/",
        capture_output=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode().strip() in {Proof.EMPTY_ROOT.name, Proof.THIS_ROOT.name}


def _asked(packed: contents.Contents, place: Path, *before: str) -> set[str]:
    """What the self-test asks for where `place` is its whole toolkit."""
    for name, (mode, data) in packed.members.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)
        (place / name).chmod(mode)
    shutil.copy(self_test.__file__, place / "agent")
    argv = [*before, *contents.prove.toolkit_argv(str(place), "self_test.py", f"{place}/work")]
    done = subprocess.run(
        argv, env={"LC_ALL": "C"}, cwd="/", capture_output=True, timeout=600, check=True
    )
    found = json.loads(done.stdout)
    assert found["failed"] == ""
    return set(found["asked"])


@pytest.mark.slow
def test_without_a_root_of_its_own_the_machine_stays_as_it_is(
    packed: contents.Contents, tmp_path: Path
) -> None:
    asked = _asked(packed, tmp_path / "toolkit")
    assert {"measure", "order", "put_end", "trust"} <= asked
    changing = {"job_start", "lease", "host_key", "close_metadata", "install", "cleanse", "seal"}
    assert not asked & changing
    assert not Path(self_test.MARK).exists()


def test_every_operation_of_the_agent_is_asked_for(tmp_path: Path) -> None:
    """But `seal`, of which the usage says why not."""
    reader, writer = os.pipe()
    server = Server(str(tmp_path), Answers(writer))
    source = Path(self_test.__file__).read_text()
    asked = {name for name in server._operations if f'("{name}"' in source}
    os.close(reader)
    os.close(writer)
    assert set(server._operations) - asked == {"seal"}
    assert "but `seal`" in source


def test_where_there_are_no_namespaces_the_command_is_not_run(tmp_path: Path) -> None:
    """A root that cannot be made one: no /proc in it."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-B", empty_root.__file__, str(tmp_path), "/bin/true"],
        capture_output=True,
        check=False,
    )
    assert done.returncode == empty_root.UNAVAILABLE
    assert b"no " in done.stderr


def _pack(product: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    """`mock-cloud toolkit pack` of the product in this directory."""
    code = "import sys; from mock_cloud.cli import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", code, "toolkit", "pack", "--json"],
        env={**os.environ, "PYTHONPATH": str(product), "XDG_CACHE_HOME": str(cache)},
        cwd=product,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


@needs_root
@pytest.mark.slow
def test_another_probe_makes_another_toolkit(tmp_path: Path) -> None:
    """The version is the same, the sources of the toolkit are: only what chose them changed."""
    product, cache = tmp_path / "product", tmp_path / "cache"
    cache.mkdir(mode=0o700)
    shutil.copytree(PRODUCT, product / "mock_cloud", ignore=shutil.ignore_patterns("__pycache__"))
    probe = product / "mock_cloud/toolkit/probe.py"
    whole = probe.read_text()
    first = _pack(product, cache)
    assert first.returncode == 0, first.stderr
    good = json.loads(first.stdout)[0]

    marked = 'if file and name != "ctypes._endian":'
    assert whole.count("        if file:\n            found.append") == 1
    probe.write_text(
        whole.replace("        if file:\n            found", f"        {marked}\n            found")
    )
    second = _pack(product, cache)
    assert second.returncode == EXIT_CONFIG, second.stdout
    assert "ctypes._endian" in second.stderr
    assert "no node" in second.stderr

    probe.write_text(whole)
    third = _pack(product, cache)
    assert third.returncode == 0, third.stderr
    assert json.loads(third.stdout)[0]["digest"] == good["digest"]


@pytest.mark.slow
@needs_root
def test_two_installations_of_one_user_have_toolkits_of_their_own(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o700)
    digests = []
    for name in ("one", "other"):
        product = tmp_path / name
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PRODUCT, product / "mock_cloud", ignore=ignored)
        (product / "mock_cloud/wire/frames.py").open("a").write(f"# {name}\n")
        packed = _pack(product, cache)
        assert packed.returncode == 0, packed.stderr
        digests.append(json.loads(packed.stdout)[0]["digest"])
    assert digests[0] != digests[1]
    again = _pack(tmp_path / "one", cache)
    assert json.loads(again.stdout)[0]["digest"] == digests[0]
