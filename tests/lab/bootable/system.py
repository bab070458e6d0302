# SPDX-License-Identifier: GPL-2.0-or-later
"""The Debian system that a generation is packed in and its machines are run from.

A tree below the lab's directory, entered in namespaces; nothing of it is installed on this machine.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryFile

from tests.lab import generations, seeds
from tests.lab.bootable.seeds import TOOLS
from tests.lab.layout import Lab, LabError, code_digest, repository_root, stamp_matches
from tests.lab.prepare import TEST_TOOLS
from tests.releases import enter, trees

CACHE = Path("/var/cache/mock-cloud-releases")
PROJECT = "/srv/mock-cloud"
"""Where the system has this checkout, and the lab in it."""

_TAIL_BYTES = 4000
# No service starts, no initramfs is made: nothing here is booted.
_SETUP = """\
printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
apt-get -q update
apt-get -q -y --no-install-recommends -o Dpkg::Options::=--force-unsafe-io install "$@"
"""


def system_tree(lab: Lab) -> Path:
    return lab.root / "system"


def find_obstacle() -> str | None:
    """Why this machine can't have the system, or None."""
    if os.geteuid() != 0:
        return "needs root"
    return trees.find_obstacle()


def _wanted(lab: Lab) -> tuple[str, ...]:
    return tuple(sorted({*seeds.TOOLS, *generations.of(lab).seeds, *TEST_TOOLS, *TOOLS}))


def build(lab: Lab) -> bool:
    """Make the system unless it is there for the same packages; returns whether it was made."""
    root, stamp = system_tree(lab), lab.root / "system.key"
    suite, wanted = generations.of(lab).suite, _wanted(lab)
    key = f"{' '.join(wanted)} {code_digest(('bootable/system',))}"
    if stamp_matches(stamp, key):
        return False
    obstacle = find_obstacle()
    if obstacle is not None:
        raise LabError(f"no system of {trees.SUITES[suite]}: {obstacle}")
    stamp.unlink(missing_ok=True)
    shutil.rmtree(root, ignore_errors=True)
    trees.unpack(suite, CACHE, root)
    environment = {"DEBIAN_FRONTEND": "noninteractive", "INITRD": "No"}
    run(lab, ["sh", "-ec", _SETUP, "sh", *wanted], environment=environment)
    stamp.write_text(key)
    return True


def run(
    lab: Lab,
    argv: Iterable[str],
    *,
    directory: str = "/root",
    environment: dict[str, str] | None = None,
) -> bytes:
    """What `argv` prints in the system, which has this checkout at PROJECT. LabError if it fails.

    The lab's directory has one path here and there.
    """
    binds = {
        CACHE / generations.of(lab).suite / "apt": "/var/cache/apt/archives",
        repository_root(): PROJECT,
        lab.root: str(lab.root),
    }
    words = list(argv)
    with TemporaryFile() as output:
        process = enter.start(
            system_tree(lab), words, output=output, directory=directory, binds=binds,
            environment=environment,
        )  # fmt: skip
        try:
            status = process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
        output.seek(0)
        printed = output.read()
    if status:
        tail = printed[-_TAIL_BYTES:].decode(errors="replace")
        raise LabError(f"{words[0]} in {system_tree(lab)} ended with {status}:\n{tail}")
    return printed
