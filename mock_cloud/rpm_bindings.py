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
from functools import cache
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Final

_DEBIAN: Final = "/usr/lib/python3/dist-packages"  # which Python's own `site` knows nothing of
HINT: Final = "install python3-rpm, and run mock-cloud with the Python that it is for"


@cache
def find_rpm() -> ModuleType | None:
    """The module ``rpm``, or None where there is none for this Python.

    Nothing may depend on it: a caller goes on without, and says with `HINT` what is then not done.
    """
    if not _is_built_for_this_python():
        return None
    try:
        return importlib.import_module("rpm")
    except Exception:  # PyPI's `rpm` runs the system's Python, which can fail in each way
        return None


def _is_built_for_this_python() -> bool:
    """Whether rpm's compiled part is there, for this Python, where it would be looked for."""
    package = importlib.util.find_spec("rpm")
    if package is None:
        return False
    system = [f"{path}/rpm" for path in (*site.getsitepackages(["/usr"]), _DEBIAN)]
    places = [*(package.submodule_search_locations or ()), *system]
    return PathFinder.find_spec("rpm._rpm", places) is not None
