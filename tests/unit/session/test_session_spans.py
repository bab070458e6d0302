# SPDX-License-Identifier: GPL-2.0-or-later
"""Traces of a build, by OpenTelemetry's own SDK and exporter, at a receiver of OTLP over HTTP."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mock_cloud.console import Console
from mock_cloud.exit_status import end_well
from mock_cloud.progress import spans
from mock_cloud.progress.spans import asks_for_spans
from tests.unit.session.scripted_node import Script
from tests.unit.session.scripted_place import SRPM, Place
from tests.waiting import wait_for

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Receiver:
    """Takes traces; `spans` are those that arrived, by name, `answer` the status it gives."""

    def __init__(self) -> None:
        self.spans: dict[str, Any] = {}
        self.service = ""
        self.paths: list[str] = []
        self.answer = 200
        self.silent = threading.Event()
        self.silent.set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.paths.append(self.path)
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.silent.wait(600)
                receiver.take(body)
                self.send_response(receiver.answer)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def take(self, body: bytes) -> None:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
            ExportTraceServiceRequest,
        )

        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.service = attributes(group.resource)["service.name"]
            for scope in group.scope_spans:
                self.spans.update({span.name: span for span in scope.spans})

    def close(self) -> None:
        self.silent.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def attributes(what: Any) -> dict[str, Any]:
    found = {}
    for one in what.attributes:
        kind = one.value.WhichOneof("value")
        found[one.key] = getattr(one.value, kind)
    return found


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="pip install '.[otel]'")
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    for name in [one for one in os.environ if one.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    for name in ("STATE", "CACHE", "CONFIG"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    place = Place(tmp_path)
    place.enter(monkeypatch.setattr)
    yield place
    place.cloud.close()


@pytest.fixture
def exporters(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The processes that send spans; they end by themselves."""
    started: list[subprocess.Popen[bytes]] = []
    real_popen = subprocess.Popen

    def popen(*given: Any, **more: Any) -> subprocess.Popen[bytes]:
        started.append(real_popen(*given, **more))
        return started[-1]

    monkeypatch.setattr(spans.subprocess, "Popen", popen)
    yield started
    for one in started:
        one.kill()
        one.wait()


def build(place: Place, verbose: int = 1) -> int:
    """As a command does it, to its exit code."""
    console = Console(verbose, stream=place.screen)
    return end_well(console, lambda: place.build(console=console))


@pytest.mark.parametrize("verbose", [0, 1])
def test_a_build_is_a_span_and_its_phases_are_below_it(
    place: Place,
    receiver: Receiver,
    exporters: list[subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
    verbose: int,
) -> None:
    monkeypatch.setenv(ENDPOINT, receiver.url)
    monkeypatch.setenv("TRACEPARENT", PARENT)
    assert build(place, verbose) == 0
    assert exporters[0].wait(300) == 0
    phases = ["check", "node", "attest", "send", "job", "results", "release"]
    assert set(receiver.spans) == {"mock-cloud", *phases}
    assert (receiver.service, set(receiver.paths)) == ("mock-cloud", {"/v1/traces"})
    whole = receiver.spans["mock-cloud"]
    assert whole.trace_id.hex() == PARENT.split("-")[1]
    assert whole.parent_span_id.hex() == PARENT.split("-")[2]
    found = attributes(whole)
    (node,) = place.cloud.made
    lease = place.lease
    assert found == {
        "mock_cloud.remote": "cloud", "mock_cloud.mode": "rebuild", "mock_cloud.chroot": "small",
        "mock_cloud.package": SRPM, "mock_cloud.node": f"root@127.0.0.1:{node.port}",
        "mock_cloud.lease": lease.id, "mock_cloud.node_state": "new", "process.exit.code": 0,
    }  # fmt: skip
    before = whole.start_time_unix_nano
    for name in phases:
        span = receiver.spans[name]
        assert span.parent_span_id == whole.span_id and span.trace_id == whole.trace_id
        assert before <= span.start_time_unix_nano
        assert span.start_time_unix_nano <= span.end_time_unix_nano
        before = span.start_time_unix_nano
    assert attributes(receiver.spans["send"])["mock_cloud.bytes"] >= place.srpm.stat().st_size
    said = [event.name for event in receiver.spans["node"].events]
    assert any("creating a node" in one for one in said)
    assert any("connecting to" in one for one in said)


def test_a_failure_has_its_kind_and_its_code(
    place: Place,
    receiver: Receiver,
    exporters: list[subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(ENDPOINT, receiver.url)
    place.cloud.scripts = [Script(exit=None)]
    assert build(place) == 75
    exporters[0].wait(300)
    whole = receiver.spans["mock-cloud"]
    assert attributes(whole)["process.exit.code"] == 75
    assert (whole.status.code, whole.status.message) == (2, "infrastructure")


def test_a_command_that_is_killed_has_a_span_too(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = (
        "import os, signal, time\n"
        "from mock_cloud.console import Console\n"
        "console = Console()\n"
        "console.begin_phase('check')\n"
        "console.begin_phase('node')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    env = {**os.environ, ENDPOINT: receiver.url}
    done = subprocess.run([sys.executable, "-c", script], env=env, check=False)
    assert done.returncode == -signal.SIGKILL
    wait_for(lambda: set(receiver.spans) == {"mock-cloud", "check"})
    assert receiver.spans["mock-cloud"].status.message == "killed"


@pytest.mark.parametrize("fault", ["refuses", "says no", "says nothing", "exporter is stopped"])
def test_a_broken_collector_costs_a_build_nothing(
    place: Place,
    receiver: Receiver,
    exporters: list[subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
) -> None:
    """The build ends well while what sends its spans still tries."""
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:1" if fault == "refuses" else receiver.url)
    receiver.answer = 503 if fault == "says no" else 200
    receiver.silent.clear()
    console = Console(stream=place.screen)
    if fault == "exporter is stopped":  # it reads nothing, and the pipe is full
        console.begin_phase("check")
        exporters[0].send_signal(signal.SIGSTOP)
        for number in range(3000):
            console.phase(f"{number}")
    assert end_well(console, lambda: place.build(console=console)) == 0
    assert exporters[0].poll() is None
    assert "opentelemetry" not in place.screen.getvalue()
    receiver.silent.set()


def test_nothing_is_started_or_loaded_unless_it_is_asked_for(
    place: Place, exporters: list[subprocess.Popen[bytes]]
) -> None:
    assert build(place) == 0
    assert exporters == []
    assert not [name for name in sys.modules if name.startswith("opentelemetry.sdk")]


@pytest.mark.parametrize(
    ("environ", "asks"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "x"}, False),
        ({ENDPOINT: "http://c:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, True),
        ({ENDPOINT: "http://c:4318", "OTEL_SDK_DISABLED": "TRUE"}, False),
        ({ENDPOINT: "http://c:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({ENDPOINT: "http://c:4318", "OTEL_TRACES_EXPORTER": "otlp"}, True),
    ],
)
def test_opentelemetrys_own_variables_ask(environ: dict[str, str], asks: bool) -> None:
    assert asks_for_spans(environ) is asks


def test_where_the_sdk_is_not_installed_the_build_is_as_ever(
    place: Place, exporters: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:1")
    monkeypatch.setattr(spans, "_MAIN", "raise ImportError('opentelemetry')")
    assert build(place) == 0
    assert exporters[0].wait(300) == 1
