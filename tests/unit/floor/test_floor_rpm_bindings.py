# SPDX-License-Identifier: GPL-2.0-or-later
"""rpm's bindings are used where they are for this Python, and otherwise done without."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest
from pysequoia import Cert, Tsk

from mock_cloud.rpm_bindings import HINT, find_rpm, takes_a_key
from tests.lab.layout import repository_root
from tests.unit.signed.openpgp_maker import RSA, Maker


def load(*packages: Path, system: Path) -> str:
    """What `load` returns in a Python of its own that has `packages` before all else."""
    path = [*map(str, packages), str(repository_root())]
    script = (
        f"import sys; sys.path[:0] = {path!r}\n"
        "from mock_cloud import rpm_bindings\n"
        f"print(rpm_bindings.load([{str(system)!r}]))"
    )
    argv = [sys.executable, "-I", "-c", script]
    return subprocess.check_output(argv, text=True, stderr=subprocess.STDOUT, timeout=600).strip()


@pytest.fixture
def shim(tmp_path: Path) -> Path:
    """A directory with a pure-Python ``rpm`` that says that it was imported, as PyPI's is."""
    package = tmp_path / "shim" / "rpm"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("print('imported')\n")
    return package.parent


def compiled(tmp_path: Path, suffix: str) -> Path:
    """A system directory with rpm's compiled part for the Python of `suffix`."""
    package = tmp_path / "system" / "rpm"
    package.mkdir(parents=True)
    (package / f"_rpm{suffix}").touch()
    return package.parent


def test_bindings_for_this_python_are_imported(shim: Path, tmp_path: Path) -> None:
    said = load(shim, system=compiled(tmp_path, EXTENSION_SUFFIXES[0]))
    assert said.splitlines()[0] == "imported"
    assert "<module 'rpm'" in said


@pytest.mark.parametrize("suffix", [".cpython-27-x86_64-linux-gnu.so", ".txt"])
def test_bindings_for_another_python_are_not_even_tried(
    shim: Path, tmp_path: Path, suffix: str
) -> None:
    assert load(shim, system=compiled(tmp_path, suffix)) == "None"


def test_no_bindings_at_all(shim: Path, tmp_path: Path) -> None:
    assert load(shim, system=tmp_path / "none") == "None"


@pytest.mark.parametrize("failure", ["raise ImportError", "raise OSError", "1 / 0"])
def test_bindings_that_cannot_be_imported_stop_nothing(
    shim: Path, tmp_path: Path, failure: str
) -> None:
    (shim / "rpm" / "__init__.py").write_text(failure)
    assert load(shim, system=compiled(tmp_path, EXTENSION_SUFFIXES[0])) == "None"


def test_rpm_takes_a_key_where_it_can_be_imported(tmp_path: Path) -> None:
    if find_rpm() is None or shutil.which("rpmkeys") is None:
        pytest.skip(f"no rpm for this Python: {HINT}")
    begin = b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n"
    key = Maker(RSA)
    rsa = str(Cert.from_bytes(key.certificate(key.state()))).encode()
    made = str(Tsk.generate("Packager <packager@lab.invalid>").extract_certificate()).encode()
    garbage = begin + b"\nbm8ga2V5\n-----END PGP PUBLIC KEY BLOCK-----\n"
    taken = {}
    for number, armoured in enumerate((rsa, made, garbage)):
        file = tmp_path / f"{number}.asc"
        file.write_bytes(armoured)
        argv = ["rpmkeys", "--dbpath", str(tmp_path / f"db{number}"), "--import", str(file)]
        imported = subprocess.run(argv, check=False, capture_output=True).returncode == 0
        taken[number] = takes_a_key(armoured)
        assert taken[number] is imported, number
    assert (taken[0], taken[2]) == (True, False)
    assert takes_a_key(b"\x99\x01\x0d\x04 not armoured") is None
