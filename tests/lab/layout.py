# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the lab's parts lie, what it raises, and how its steps are cached."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mock_cloud.errors import MockCloudError

RELEASES = (1, 2)
CLASSIC = "classic"
TODAY = "today"
EL9 = "el9"
BOOTABLE = (TODAY, EL9)
"""The generations whose nodes are machines that boot systemd: all but the classic one."""
KEY_NAME = "RPM-GPG-KEY-lab.asc"
SECOND_KEY_NAME = "RPM-GPG-KEY-lab-2.asc"
FOREIGN_KEY_NAME = "RPM-GPG-KEY-foreign.asc"


class LabError(MockCloudError):
    """The lab could not be made or used; the message names what is missing."""


@dataclass(frozen=True, slots=True)
class Lab:
    """The directories below the lab's root (`.lab` by default; absolute).

    `arch` is RPM's word for what its packages and nodes are, `generation` the name of theirs
    (`generations`).
    """

    root: Path
    arch: str = field(default_factory=platform.machine)
    generation: str = CLASSIC

    @property
    def is_foreign(self) -> bool:
        """Whether this machine can run the nodes' programs only by emulation."""
        return self.arch != platform.machine()

    @property
    def has_systemd(self) -> bool:
        """Whether its nodes are machines that boot systemd."""
        return self.generation in BOOTABLE

    @property
    def dist(self) -> Path:
        return self.root / "dist"

    def release(self, number: int) -> Path:
        return self.dist / str(number)

    @property
    def tree(self) -> Path:
        return self.root / "node" / "tree"

    @property
    def manifest(self) -> Path:
        return self.root / "node" / "manifest.dsse.json"

    @property
    def manifest_key(self) -> Path:
        return self.keys / "manifest.pub"

    @property
    def keys(self) -> Path:
        return self.root / "keys"

    @property
    def package_key(self) -> Path:
        return self.keys / KEY_NAME

    @property
    def second_key(self) -> Path:
        """Of a distribution whose packages are signed twice."""
        return self.keys / SECOND_KEY_NAME

    @property
    def foreign_key(self) -> Path:
        return self.keys / FOREIGN_KEY_NAME

    @property
    def sources(self) -> Path:
        return self.root / "srpms"

    @property
    def work(self) -> Path:
        return self.root / "work"

    def log(self, name: str) -> Path:
        """The file for the output of one step."""
        return self.root / "log" / f"{name}.log"


def repository_root() -> Path:
    """The top of this project's checkout."""
    return Path(__file__).resolve().parents[2]


def default_lab() -> Lab:
    return Lab(repository_root() / ".lab")


def foreign_lab(lab: Lab, arch: str) -> Lab:
    """The lab of another architecture, which lies inside of `lab`."""
    return Lab(lab.root / arch, arch)


def generation_lab(lab: Lab, generation: str) -> Lab:
    """The lab of a generation with systemd, which lies inside of `lab`."""
    return Lab(lab.root / generation, generation=generation)


def code_digest(modules: Iterable[str]) -> str:
    """sha256 hex over the named modules of this package: what a step's result depends on.

    A name with a suffix is another file's.
    """
    here = Path(__file__).parent
    total = hashlib.sha256()
    for name in sorted(modules):
        place = here / name
        place = place if place.suffix else place.with_suffix(".py")
        total.update(name.encode() + b"\0" + place.read_bytes())
    return total.hexdigest()


def stamp_matches(stamp: Path, key: str) -> bool:
    """Whether the step that wrote `stamp` ran to its end with the same inputs."""
    try:
        return stamp.read_text() == key
    except FileNotFoundError:
        return False


@contextmanager
def locked(lab: Lab) -> Iterator[None]:
    """Only one process makes parts of this lab at a time; others wait here."""
    lab.root.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(lab.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
