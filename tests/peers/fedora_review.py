# SPDX-License-Identifier: GPL-2.0-or-later
"""fedora-review from a checkout: made to run under the Python that there is, otherwise unchanged.

The code that public git repositories hold, 0.6.1 of 2016, is written for Python 2. lib2to3 converts
a copy of it; what that cannot know is in `_DRIVER`: there, what a program prints is text.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_DRIVER = """\
import subprocess, sys

class Text(str):
    def decode(self, *words):
        return self

class Popen(subprocess.Popen):
    def __init__(self, *words, **options):
        super().__init__(*words, **{{"text": True, "errors": "replace", **options}})

    def communicate(self, *words, **options):
        printed = super().communicate(*words, **options)
        return tuple(None if one is None else Text(one) for one in printed)

subprocess.Popen = Popen
sys.path[:0] = [{source!r}, {beside!r}]
from FedoraReview import check_base
from FedoraReview.review_helper import ReviewHelper
for kind in vars(check_base).values():
    if "__cmp__" in getattr(kind, "__dict__", ()):
        kind.__lt__ = lambda one, other: one.__cmp__(other) < 0
sys.exit(ReviewHelper().run())
"""
# Where it reads or writes bytes, or goes on by `next`: what lib2to3 leaves as it was.
_BYTES = (
    (r"\b([a-z.]+)\.next\(\)", r"next(\1)"),
    (r"(read\(\d+\), |octets != )''", r"\1b''"),
    (r"\.write\(prettyxml\)", ".write(prettyxml.decode())"),
)
_VERSION = "__version__ = '0.6.1'\nBUILD_FULL = BUILD_DATE = BUILD_ID = 'a checkout'\n"

STANDINS = {
    "rpmlint": "#!/bin/sh\necho 0 packages and 0 specfiles checked: 0 errors, 0 warnings.\n",
    "licensecheck": "#!/bin/sh\nfind \"$2\" -type f | sed 's/$/: CC0-1.0/'\n",
}
"""What it calls on the reviewer's machine."""


def make(checkout: Path, place: Path) -> Path:
    """The script that is fedora-review, in `place`, which is made anew."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for name in ("src", "plugins", "scripts", "json-plugins"):
        shutil.copytree(checkout / name, place / name, symlinks=True)
    source = place / "src"
    if _is_of_python_2(source / "FedoraReview/mock.py"):
        _convert(place)
    version = source / "FedoraReview/version"
    if not version.exists():  # it is made by `git log`, or by a release
        version.write_text(_VERSION)
    beside = place / "beside"
    beside.mkdir()
    (beside / "BeautifulSoup.py").write_text("from bs4 import BeautifulSoup\n")
    script = place / "fedora-review"
    script.write_text(_DRIVER.format(source=str(source), beside=str(beside)))
    return script


def _is_of_python_2(path: Path) -> bool:
    try:
        compile(path.read_bytes(), path, "exec", dont_inherit=True)
    except SyntaxError:
        return True
    return False


def _convert(place: Path) -> None:
    if sys.version_info >= (3, 13):
        pytest.skip("this fedora-review is for Python 2, and lib2to3 is gone")
    argv = ["/usr/bin/python3", "-W", "ignore", "-m", "lib2to3", "-w", "-n", "--no-diffs"]
    subprocess.run([*argv, "src", "plugins"], cwd=place, check=True, capture_output=True)
    for path in place.rglob("*.py"):
        text = path.read_text()
        for old, new in _BYTES:
            text = re.sub(old, new, text)
        path.write_text(text)
