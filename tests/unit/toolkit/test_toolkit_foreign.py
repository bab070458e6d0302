# SPDX-License-Identifier: GPL-2.0-or-later
"""Trees of packages that make no toolkit, made of this machine's own objects."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

import pytest

from mock_cloud.errors import InputError
from mock_cloud.toolkit import elf, foreign
from mock_cloud.toolkit.machines import MACHINES
from mock_cloud.toolkit.packages import proxies
from mock_cloud.toolkit.tree import Tree

PROGRAM = Path(shutil.which("true") or "/bin/true").resolve()
LOADER = elf.find_loader(PROGRAM)
HERE = MACHINES[platform.machine()]
OTHER = next(one for one in MACHINES.values() if one != HERE)


def tree_of(*, libraries: bool = True, loader: bool = True, modules: tuple[str, ...] = ()) -> Tree:
    """A tree whose python is /bin/true."""
    tree = Tree()
    tree.add_file("usr/bin/python3.11", PROGRAM.read_bytes(), "x")
    tree.add_link("usr/bin/python3", "python3.11", "x")
    if loader:
        tree.add_file(str(LOADER), LOADER.resolve().read_bytes(), "x")
    for name, path in elf.list_libraries(LOADER, PROGRAM).items() if libraries else ():
        tree.add_file(f"usr/lib/{HERE.triplet}/{name}", path.read_bytes(), "x")
    for name in modules:
        tree.add_file(f"usr/lib/python3.11/{name}.py", b"", "x")
    return tree


def test_no_python() -> None:
    with pytest.raises(InputError, match="have no /usr/bin/python3"):
        foreign.gather_foreign(Tree(), HERE)


def test_a_python_of_another_architecture_is_refused() -> None:
    with pytest.raises(InputError, match=f"/usr/bin/python3.11 .* is not of {OTHER.name}"):
        foreign.gather_foreign(tree_of(), OTHER)


def test_a_library_of_another_architecture_is_refused() -> None:
    tree = tree_of()
    libc = f"usr/lib/{HERE.triplet}/libc.so.6"
    data = bytearray(tree.read(libc))
    data[0x12:0x14] = OTHER.elf.to_bytes(2, "little")
    tree.add_file(libc, bytes(data), "x")
    with pytest.raises(InputError, match=rf"libc\.so\.6 .* is not of {HERE.name}"):
        foreign.gather_foreign(tree, HERE)


def test_a_missing_library_is_named() -> None:
    with pytest.raises(InputError, match=r"/usr/bin/python3.11 needs libc\.so\.6"):
        foreign.gather_foreign(tree_of(libraries=False), HERE)


def test_a_missing_loader_is_named() -> None:
    with pytest.raises(InputError, match=f"no loader {LOADER}"):
        foreign.gather_foreign(tree_of(loader=False), HERE)


def test_a_python_without_its_library_is_refused() -> None:
    with pytest.raises(InputError, match=r"no library for python3\.11"):
        foreign.gather_foreign(tree_of(), HERE)


def test_a_library_that_lacks_modules_is_refused() -> None:
    with pytest.raises(InputError, match="No module named"):
        foreign.gather_foreign(tree_of(modules=("os",)), HERE)


def test_a_script_in_the_interpreter_s_place_is_refused() -> None:
    tree = tree_of()
    tree.add_file("usr/bin/python3.11", b"#!/bin/sh\n", "x")
    with pytest.raises(InputError, match="not an ELF object"):
        foreign.gather_foreign(tree, HERE)


def test_proxies_are_those_of_the_one_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """apt knows no network in no_proxy, and dnf no port: what is exempt, they get no proxy for."""
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "10.0.0.0/8,mirror.example:8443")
    for url in ("https://10.1.2.3/debian", "https://mirror.example:8443/", "file:/srv/debian"):
        assert proxies(url) == {}
    for url in ("", "https://11.1.2.3/debian", "https://mirror.example/"):
        assert proxies(url)["https_proxy"] == "http://proxy.example:3128"
