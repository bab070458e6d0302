# SPDX-License-Identifier: GPL-2.0-or-later
"""What cloud-init leaves below its own directories, name by name.

Much of /var/lib/cloud is run by root at the next boot: scripts, handlers. So places stand here
with what they hold, and those for code hold nothing. An instance's id is part of the paths: one
component of harmless letters. Names are of cloud-init 22 to 26 (cloudinit/helpers.py `Paths`,
cloudinit/stages.py, cloudinit/cmd/main.py).
"""

from __future__ import annotations

import functools
import posixpath
import re
from collections.abc import Iterable
from enum import Enum
from typing import Final

from mock_cloud.attest.files import FileFact

STATE_DIR: Final = "/var/lib/cloud"
RUN_DIR: Final = "/run/cloud-init"
PLACES: Final = (STATE_DIR, RUN_DIR)


class Shape(Enum):
    """What stands at a place."""

    DIRECTORY = "directory"
    DATA = "data"
    NOTE = "note"
    """A file of a line: who did something, and when."""
    LINK = "link"
    SOCKET = "socket"


_ID: Final = "[A-Za-z0-9][A-Za-z0-9_-]{0,127}"
_SEMAPHORE: Final = (
    r"(?:config_[a-z0-9_]{1,64}(?:\.once)?|apply_network_config(?:\.once)?|consume_data)"
)
_PIECES: Final = r"(?:user|vendor)-data2?\.txt(?:\.i)?"
_DATA_NAMES: Final = (
    "instance-id|previous-(?:datasource|hostname|instance-id)|python-version|result\\.json|"
    "set-hostname|status\\.json|upgraded-network"
)
_SHAPES: Final = (
    (f"{STATE_DIR}(?:/(?:data|handlers|instances|scripts|seed|sem))?", Shape.DIRECTORY),
    (f"{STATE_DIR}/scripts/(?:per-boot|per-instance|per-once|vendor)", Shape.DIRECTORY),
    (f"{STATE_DIR}/instances/{_ID}(?:/(?:handlers|scripts|sem))?", Shape.DIRECTORY),
    (f"{STATE_DIR}/instance", Shape.LINK),
    (f"{STATE_DIR}/data/(?:{_DATA_NAMES})", Shape.DATA),
    (f"{STATE_DIR}/(?:instances/{_ID}/)?sem/{_SEMAPHORE}", Shape.NOTE),
    (f"{STATE_DIR}/instances/{_ID}/(?:{_PIECES})", Shape.DATA),
    (f"{STATE_DIR}/instances/{_ID}/(?:vendor2?-)?cloud-config\\.txt", Shape.DATA),
    (f"{STATE_DIR}/instances/{_ID}/(?:datasource|network-config\\.json|obj\\.pkl)", Shape.DATA),
    (f"{STATE_DIR}/instances/{_ID}/boot-finished", Shape.DATA),
    (f"{RUN_DIR}(?:/(?:sem|share|tmp))?", Shape.DIRECTORY),
    (f"{RUN_DIR}/share/(?:local|network|config|final)(?:-return)?\\.sock", Shape.SOCKET),
    (f"{RUN_DIR}/(?:share/)?hook-hotplug-cmd", Shape.SOCKET),
    (f"{RUN_DIR}/hook-hotplug\\.log", Shape.DATA),
    (f"{RUN_DIR}/(?:cloud-id|network-config\\.json|result\\.json|status\\.json)", Shape.LINK),
    (
        f"{RUN_DIR}/(?:cloud-id-[a-z0-9-]+|enabled|(?:cloud-init-generator|ds-identify)\\.log)",
        Shape.DATA,
    ),
    (f"{RUN_DIR}/(?:combined-cloud-config|instance-data(?:-sensitive)?)\\.json", Shape.DATA),
    (
        f"{RUN_DIR}/(?:\\.instance-id|\\.ds-identify\\.result|\\.skip-network|sem/{_SEMAPHORE})",
        Shape.NOTE,
    ),
)
_TARGETS: Final = {
    f"{STATE_DIR}/instance": f"(?:{STATE_DIR}|\\.)/instances/{_ID}",
    f"{RUN_DIR}/cloud-id": f"{RUN_DIR}/cloud-id-[a-z0-9-]+",
    f"{RUN_DIR}/network-config.json": f"{STATE_DIR}/instances?(?:/{_ID})?/network-config\\.json",
    f"{RUN_DIR}/result.json": "\\.\\./\\.\\./var/lib/cloud/data/result\\.json",
    f"{RUN_DIR}/status.json": "\\.\\./\\.\\./var/lib/cloud/data/status\\.json",
}


@functools.cache
def _shapes() -> tuple[tuple[re.Pattern[str], Shape], ...]:
    """Compiled for the first measurement: most commands rely on none of their own."""
    return tuple((re.compile(pattern), shape) for pattern, shape in _SHAPES)


def find_shape(path: str) -> Shape | None:
    """What cloud-init has at `path`; None for a name that it has not."""
    for pattern, shape in _shapes():
        if pattern.fullmatch(path):
            return shape
    return None


def has_finished(files: Iterable[FileFact]) -> bool:
    """Whether cloud-init's last stage is over on this instance, or there is no cloud-init."""
    facts = {fact.path: fact for fact in files if fact.path.startswith(f"{STATE_DIR}/")}
    link = facts.get(f"{STATE_DIR}/instance")
    if link is None or link.value is None:
        return not facts
    instance = posixpath.join(STATE_DIR, link.value)
    return f"{posixpath.normpath(instance)}/boot-finished" in facts


def is_own_link(fact: FileFact) -> bool:
    """Whether this is one of cloud-init's links and leads to where cloud-init has it lead."""
    target = _TARGETS.get(fact.path, "")
    is_link = fact.type == "l" and fact.uid == 0
    return is_link and bool(target and re.fullmatch(target, fact.value or ""))
