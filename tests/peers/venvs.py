# SPDX-License-Identifier: GPL-2.0-or-later
"""Virtual environments for peers, each with the system's bindings of rpm and what pip installs.

python -m tests.peers.venvs

makes the one that runs the mock of a checkout, and prints its Python.
"""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest

from tests.lab.layout import Lab, default_lab

_SYSTEM_PYTHON = "/usr/bin/python3"
_TIMEOUT_S = 900.0
# pip would build these, with headers of Kerberos and more that no build in mock needs.
_ABSENT = {
    "cccolutils": "def get_user_for_realm(realm):\n    return None\n",
    "gssapi": "",
    "krb5": "",
    "requests_gssapi": "",
}


_MOCK_NEEDS = ("backoff", "distro", "jinja2", "pyroute2", "requests", "templated-dictionary")
"""What mock's spec file requires of Python; `tests.integration.real_mock` adds the rest of 1.5."""


def make(lab: Lab, name: str, *requirements: str) -> Path:
    """The environment's directory, made once; skips the test where pip cannot install."""
    place = lab.root / "peers" / name
    done = place / ".requirements"
    wanted = "\n".join(requirements)
    if done.is_file() and done.read_text() == wanted:
        return place
    _run([_SYSTEM_PYTHON, "-m", "venv", "--clear", "--system-site-packages", str(place)])
    _write_absent(place / "absent")
    pip = [str(place / "bin/python"), "-m", "pip", "install", "--quiet"]
    _run(
        [*pip, "--disable-pip-version-check", "--find-links", str(place / "absent"), *requirements]
    )
    done.write_text(wanted)
    return place


def _run(argv: list[str]) -> None:
    done = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        pytest.skip(f"{' '.join(argv)}: {done.stderr.strip()[-400:]}")


def _write_absent(place: Path) -> None:
    """Wheels that stand for distributions which are never used."""
    place.mkdir()
    for name, code in _ABSENT.items():
        info = f"{name}-99.0.dist-info"
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 99.0\n"
        with zipfile.ZipFile(place / f"{name}-99.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{name}.py", code)
            wheel.writestr(f"{info}/METADATA", metadata)
            wheel.writestr(
                f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            wheel.writestr(f"{info}/RECORD", "")


if __name__ == "__main__":
    print(make(default_lab(), "mock", *_MOCK_NEEDS) / "bin/python")
