# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks on the product, each a test that fails while the attack succeeds.

A test says what it does by ``@pytest.mark.attack("from where", "what is tried", "what must come
of it")``. `make attack` runs them all and writes docs/threat-model.md's table from the marks of
those that passed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from mock_cloud.cloud.journal import Journal
from tests.attack.hostile_node import HostileNode, Mode
from tests.attack.victim import Fate

# Fixtures of both levels: an agent behind a real sshd, and whole commands with a local node.
from tests.component.conftest import (  # noqa: F401
    channel,
    connecting,
    node,
    shared_sshd,
    sshd,
    toolkit,
)
from tests.integration.conftest import User, lone_mock, make_user  # noqa: F401
from tests.integration.faults import node_facts
from tests.lab.sshd import Sshd

_DOCUMENT: Final = Path(__file__).parents[2] / "docs/threat-model.md"
_COSTS_DOCUMENT: Final = Path(__file__).parents[2] / "docs/performance.md"
_BEGIN: Final = "<!-- attacks: written by `make attack` -->\n"
_END: Final = "<!-- end of attacks -->\n"

Between = Callable[[Sshd | User, Mode], HostileNode]


@pytest.fixture
def between() -> Iterator[Between]:
    """Puts a hostile node before an sshd, or before a user's only, warm local node.

    The user's next command finds the relay where the node was: the same port of another loopback
    address.
    """
    with ExitStack() as stack:

        def put(target: Sshd | User, mode: Mode) -> HostileNode:
            if isinstance(target, User):
                relay = _before_node(target, mode)
            else:
                relay = HostileNode(
                    ("127.0.0.1", target.port),
                    host_key=target.host_key.private.reveal(),
                    client_key=target.client_key.private.reveal(),
                    mode=mode,
                )
            return stack.enter_context(relay)

        yield put


def _before_node(user: User, mode: Mode) -> HostileNode:
    if not user.nodes():
        user.cloud("attest", "local", "--configdir", user.config.path).expect()
    init = node_facts(user).init
    assert init is not None
    journal = Journal(user.place / "state/mock-cloud")
    with journal.transaction() as books:
        (lease,) = books.leases()
        assert lease.address is not None
        relay = HostileNode(
            (lease.address.host, lease.address.port),
            host_key=Path(f"/proc/{init.pid}/root/etc/ssh/ssh_host_ed25519_key").read_bytes(),
            client_key=journal.key_path(lease.id).read_bytes(),
            mode=mode,
            listen=("127.254.254.254", lease.address.port),
        )
        books.write(replace(lease, address=replace(lease.address, host=relay.address[0])))
    return relay


_costs: dict[str, Fate] = {}
"""By mode of the hostile node: what tests gave as ``record_property("cost", (mode, fate))``."""
_rows: dict[tuple[str, str, str], set[str]] = {}
_failed: set[tuple[str, str, str]] = set()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """Note each attack's outcome: one skipped or failed case keeps its row out of the table."""
    outcome = yield
    report = outcome.get_result()
    rows: list[tuple[str, str, str]] = [mark.args for mark in item.iter_markers("attack")]
    if report.outcome != "passed":
        _failed.update(rows)
    elif rows and report.when == "call":
        _costs.update(value for name, value in item.user_properties if name == "cost")
        for row in rows:
            _rows.setdefault(row, set()).add(f"{item.path.name}")


def pytest_sessionfinish() -> None:
    """Write the tables if `make attack` asks for them."""
    if os.environ.get("MOCK_CLOUD_WRITE_ATTACKS"):
        write_table(_DOCUMENT)
        write_costs(_COSTS_DOCUMENT)


def write_table(document: Path) -> None:
    """Replace the table in `document` by one of the attacks that were tried and held off."""
    lines = ["| from | attack | outcome | test |", "|---|---|---|---|"]
    for row, tests in sorted(_rows.items()):
        if row not in _failed:
            lines.append("| " + " | ".join((*row, ", ".join(sorted(tests)))) + " |")
    _replace(document, lines)


def write_costs(document: Path) -> None:
    """Replace the table in `document` by what each mode cost, if any was measured."""
    lines = ["| mode | ends at | with | peak MiB | seconds |", "|---|---|---|---|---|"]
    for mode, fate in sorted(_costs.items()):
        error = fate.error or "nothing"
        lines.append(f"| `{mode}` | {fate.step} | {error} | {fate.peak_mib} | {fate.seconds:.1f} |")
    if _costs:
        _replace(document, lines)


def _replace(document: Path, lines: list[str]) -> None:
    text = document.read_text()
    before, begin, rest = text.partition(_BEGIN)
    _old, end, after = rest.partition(_END)
    assert begin and end, f"{document} has no place for the table"
    document.write_text(before + begin + "\n" + "\n".join(lines) + "\n\n" + end + after)
