# SPDX-License-Identifier: GPL-2.0-or-later
"""What is installed in a tree, without writing to it.

The database is read by ourselves where that is possible (a header blob a package), since
rpm opens it for writing, which in an overlay copies all of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from mock_cloud.agent.engine import jail, processes
from mock_cloud.agent.engine.errors import RootError
from mock_cloud.agent.measure import headers
from mock_cloud.wire import rpmfile
from mock_cloud.wire.rpmheader import Header, HeaderError, parse_header
from mock_cloud.wire.rpmtags import Tag, Type

_QUERY = "%{nevra} %{buildtime} %{size} %{name}\\n"


@dataclass(frozen=True, slots=True)
class Installed:
    """An installed package; `buildtime` in seconds since the epoch.

    `size` is rpm's ``%{size}``, in bytes: packages of format 6, and those over 4 GiB, have none.
    """

    nevra: str
    name: str
    buildtime: int
    size: str

    @property
    def log_line(self) -> str:
        """Its line in installed_pkgs.log, as mock's package_state plugin writes it."""
        return f"{self.nevra} {self.buildtime} {self.size} installed\n"


def list_installed(root: str) -> list[Installed]:
    """All packages installed in the tree at `root`, by NEVRA. RootError."""
    try:
        found = [installed(parse_header(blob)) for blob in headers.iter_headers(root)]
    except HeaderError as error:
        raise RootError(f"the RPM database of {root} is damaged: {error}") from error
    return sorted(found or _ask_rpm(root), key=lambda package: package.nevra)


def installed(header: Header) -> Installed:
    """The package that `header` is of. HeaderError."""
    built = header.integers(Tag.BUILDTIME, Type.INT32) or (0,)
    size = header.integers(Tag.SIZE, Type.INT32) or ("(none)",)
    name = header.string(Tag.NAME) or ""
    return Installed(rpmfile.nevra(header), name, built[0], str(size[0]))


def _ask_rpm(root: str) -> list[Installed]:
    """Other database backends than sqlite; one that is not there has no packages."""
    argv = ["rpm", "--root", root, "-qa", "--qf", _QUERY]
    tree = jail.NodeTree((jail.Shown(root, root, writable=True),))
    code, output = processes.capture(argv, processes.Place(tree))
    if code != 0:
        raise RootError(f"{processes.pretty(argv)}: exit status {code}")
    found = []
    for line in output.decode(errors="surrogateescape").splitlines():
        words = line.split()
        if len(words) == 4 and words[1].isdigit():
            found.append(Installed(words[0], words[3], int(words[1]), words[2]))
    return found
