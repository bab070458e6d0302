# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may be logged in, which configuration sshd goes by, and what may be connected."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mock_cloud.attest.still_booting import is_hanging_up
from mock_cloud.attest.verdict import NodeRefused
from tests.unit.attest.attest_builder import (
    AGENT_PID,
    INIT_PID,
    LISTENING,
    RELOAD,
    RELOADED,
    SESSION_PID,
    Node,
    binding,
    judge,
    toolkit,
)

SSHD = "/usr/sbin/sshd"


def add(node: Node, pid: int, title: str, *, parent: int = INIT_PID, started: int) -> None:
    """Another sshd."""
    process = node.process(pid, parent, SSHD, [title]) | {"started": started}
    node.top["processes"].append(process)


def refused(node: Node, **changes: Any) -> dict[str, list[str]]:
    with pytest.raises(NodeRefused) as caught:
        judge(node, bound=binding(**changes))
    found: dict[str, list[str]] = {}
    for reason in caught.value.reasons:
        found.setdefault(reason.code, []).append(reason.subject)
    return found


@pytest.mark.parametrize("started", [20, RELOADED, RELOADED + 100])
def test_a_session_that_is_not_the_agent_s_is_refused(started: int) -> None:
    node = Node().boot()
    add(node, 40, "sshd: root@notty", started=started)
    assert set(refused(node)) == {"login.session"}


def test_a_login_that_waits_passes_if_sshd_has_read_its_configuration_before_it_came() -> None:
    node = Node().boot()
    add(node, 40, "sshd: [accepted]", started=RELOADED)
    add(node, 41, "sshd: unknown [net]", parent=40, started=RELOADED + 1)
    judge(node)
    add(node, 42, "sshd: [accepted]", started=RELOADED - 1)
    assert set(refused(node)) == {"login.session"}


@pytest.mark.parametrize("title", ["sshd: root@internal-sftp", "sshd: root@pts/0"])
def test_sftp_and_terminals_are_nobody_s(title: str) -> None:
    node = Node().boot()
    add(node, 40, title, started=RELOADED)
    assert set(refused(node)) == {"process.unknown"}


def test_our_own_session_must_have_the_new_configuration() -> None:
    node = Node().boot()
    node.top["processes"][1]["started"] = RELOADED - 1
    assert set(refused(node)) == {"login.configuration"}


def test_a_listener_that_read_nothing_anew_is_refused() -> None:
    node = Node().boot()
    add(node, 40, LISTENING, started=20)
    assert set(refused(node)) == {"login.configuration"}
    assert set(refused(Node().boot(), reload=replace(RELOAD, listener=None))) == {
        "login.configuration"
    }


def test_nothing_passes_without_the_order_to_read_it_anew() -> None:
    assert set(refused(Node().boot(), reload=None)) == {"login.configuration"}


@pytest.mark.parametrize(
    "ran", [("/usr/bin/bash", ("bash",)), ("/tmp/x", ("sshd: root@notty",)), (SSHD, ("sshd", "-R"))]
)
def test_whoever_ran_when_sshd_read_it_could_put_the_file_back(ran: Any) -> None:
    found = refused(Node().boot(), reload=replace(RELOAD, ran=(*RELOAD.ran, ran)))
    assert set(found) == {"login.witness"}


def test_a_program_that_a_login_started_may_have_ended_by_the_next_time() -> None:
    ran = (*RELOAD.ran, ("/usr/bin/bash", ("bash",)))
    with pytest.raises(NodeRefused) as caught:
        judge(Node().boot(), bound=binding(reload=replace(RELOAD, ran=ran)))
    assert is_hanging_up(caught.value)


def test_what_may_run_may_have_run() -> None:
    agent = toolkit().argv("serve")
    ran = (*RELOAD.ran, (SSHD, ("sshd: root@notty",)), (agent[0], tuple(agent)))
    judge(Node().boot(), bound=binding(reload=replace(RELOAD, ran=ran)))


def second_connection(node: Node) -> None:
    """Our own, with an agent and its launcher, which a job was done over."""
    root = toolkit().node_dir
    words = toolkit().argv
    add(node, 40, "sshd: root@notty", started=RELOADED - 500)
    launch = words("launch", "--workspace", "/var/lib/mock-cloud")
    node.top["processes"] += [
        node.process(41, 40, f"{root}/ld.so", words("serve")),
        node.process(42, 41, f"{root}/ld.so", launch),
        node.process(43, 40, f"{root}/ld.so", words("serve")),
    ]
    node.top["connections"].append(["tcp", "192.0.2.1", 22, "198.51.100.7", 40001, 40])


def test_a_connection_that_the_controller_has_itself_may_stay() -> None:
    node = Node().boot()
    second_connection(node)
    judge(node, bound=binding(reload=replace(RELOAD, agents=(41,))))
    assert set(refused(node)) == {"connection.unknown", "login.agent", "login.session"}


def test_what_just_hangs_up_is_told_from_what_stays() -> None:
    node = Node().boot()
    second_connection(node)
    with pytest.raises(NodeRefused) as caught:
        judge(node)
    assert is_hanging_up(caught.value)
    node.top["hidden_pids"] = [666]
    with pytest.raises(NodeRefused) as caught:
        judge(node)
    assert not is_hanging_up(caught.value)


ENDS = ["tcp", "192.0.2.1", 22, "198.51.100.66", 50000]


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ([*ENDS, None], "connection.unowned"),
        ([*ENDS, 666], "connection.unowned"),
        ([*ENDS, AGENT_PID], "connection.unknown"),
        (["tcp", "192.0.2.1", 40123, "198.51.100.66", 443, SESSION_PID], "connection.unknown"),
        (["udp6", "::1", 40123, "::1", 53, SESSION_PID], "connection.unknown"),
    ],
)
def test_connections_that_nothing_of_ours_has(row: list[Any], code: str) -> None:
    node = Node().boot()
    node.top["connections"].append(row)
    assert set(refused(node)) == {code}
