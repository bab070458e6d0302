# SPDX-License-Identifier: GPL-2.0-or-later
"""rpm's own Python bindings, where this machine has them: the only place that imports them.

They come with the distribution (``python3-rpm``), built for its own Python. PyPI's ``rpm`` makes
them importable in a virtual environment; it would also load what was built for another Python,
which can end the process, so that is found out first. On the node rpm is never asked.
"""

from __future__ import annotations

import importlib
import importlib.util
import site
from collections.abc import Iterable
from functools import cache
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any, Final

_DEBIAN: Final = "/usr/lib/python3/dist-packages"  # which Python's own `site` knows nothing of
_BEGIN: Final = b"-----BEGIN PGP PUBLIC KEY BLOCK-----"
HINT: Final = "install python3-rpm, and run mock-cloud with the Python that it is for"


@cache
def find_rpm() -> ModuleType | None:
    """The module ``rpm``, or None where there is none for this Python.

    Nothing may depend on it: a caller goes on without, and says with `HINT` what is then not done.
    """
    return load((*site.getsitepackages(["/usr"]), _DEBIAN))


def takes_a_key(armoured: bytes) -> bool | None:
    """Whether rpm takes one of the certificates in a file, by its own rules.

    None without rpm, and for a file that is not armoured. What rpm does not take here, dnf on a
    node of the same age does not take either.
    """
    rpm, certificates = find_rpm(), split_armour(armoured)
    if rpm is None or not certificates:
        return None
    rpm.setVerbosity(rpm.RPMLOG_CRIT)  # it would say on stderr why not
    return any(import_key(rpm, rpm.keyring(), one) for one in certificates)


def split_armour(data: bytes) -> list[bytes]:
    """The armoured certificates in a file, each with its first line."""
    return [_BEGIN + one for one in data.split(_BEGIN)[1:]]


def import_key(rpm: ModuleType, ring: Any, armoured: bytes) -> bool:
    """Whether `ring`, rpm's, took the certificate."""
    try:
        ring.addKey(rpm.pubkey(armoured))
    except (ValueError, rpm.error):
        return False
    return True


def load(system: Iterable[str]) -> ModuleType | None:
    """``rpm``, if its compiled part for this Python is beside it or in a directory of `system`."""
    package = importlib.util.find_spec("rpm")
    if package is None:
        return None
    places = [*(package.submodule_search_locations or ()), *(f"{path}/rpm" for path in system)]
    if PathFinder.find_spec("rpm._rpm", places) is None:
        return None
    try:
        return importlib.import_module("rpm")
    except Exception:  # PyPI's `rpm` runs the system's Python, which can fail in each way
        return None
