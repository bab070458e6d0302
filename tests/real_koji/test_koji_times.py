# SPDX-License-Identifier: GPL-2.0-or-later
"""How long a scratch build takes with local mock, with the launcher and with the plugin's engines.

`make test-koji KOJI=… MOCK=…` prints the table of docs/koji.md.
"""

from __future__ import annotations

import os
import shutil
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench.bench_series import Group
from tests.integration.faults import family
from tests.real_koji import packaged_mock
from tests.real_koji.system import RealKoji

pytestmark = [pytest.mark.koji, pytest.mark.lab]
ROUNDS = int(os.environ.get("MOCK_CLOUD_KOJI_ROUNDS", "2"))
_LOOK_EVERY_S = 0.1


@pytest.fixture
def group(koji: RealKoji) -> Iterator[Group]:
    """Of all that builders and nodes do from now on; of the tests' own process, too."""
    made = Group("koji-times")
    made.enter()
    for pid in family(koji.builders["b1.lab"].first_process()):
        made.add(pid)
    yield made
    for pid in (0, *family(koji.builders["b1.lab"].first_process())):
        made.drop(pid)
    made.close()


@pytest.fixture
def ways(koji: RealKoji, group: Group) -> Iterator[dict[str, str]]:
    """A builder for each way, by its name."""
    missing = packaged_mock.find_missing()
    if missing:
        pytest.skip(f"no real mock to compare with: {missing}")
    setup = koji.setup
    assert setup is not None
    program = packaged_mock.make(koji.place / "mock")
    session = Path(setup.path) / "mock-cloud-session"
    remote = packaged_mock.PLUGIN.format(session=session) + "config_opts['remote'] = 'ec2'\n"
    found = {"launcher": "b1.lab"}
    for way, more, engine in (
        ("local", "", ""),
        ("plugin", remote, "chroot"),
        ("plugin-mock", remote, "mock"),
    ):
        etc = koji.place / f"etc-{way}"
        shutil.copytree(setup.etc_mock, etc)
        shutil.copy(koji.place / "mock/logging.ini", etc)
        (etc / "site-defaults.cfg").write_text(packaged_mock.LOCAL + more)
        with (etc / "remotes.d/ec2.toml").open("a") as stream:
            stream.write(f'[build]\nengine = "{engine}"\n' if engine else "")
        found[way] = f"{way}.lab"
        koji.add_hosts(found[way])
        koji.start_builder(found[way], setup=replace(setup, etc_mock=etc, mock=program))
    yield found
    koji.release()
    for way in found.keys() - {"launcher"}:
        koji.koji("disable-host", found[way])
        koji.builders.pop(found[way]).stop()


def test_times(
    koji: RealKoji,
    ways: dict[str, str],
    group: Group,
    plain_srpm: Path,
    say: Callable[[str], None],
) -> None:
    """The first build of a way has a new node, or empty caches; the others are compared.

    Processor time is that of the builder and its node, kojid included.
    """
    builds: dict[str, list[float]] = {way: [] for way in ways}
    calls: dict[str, list[float]] = {way: [] for way in ways}
    busy: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(ROUNDS + 1):
        for way, builder in ways.items():
            koji.only(builder)
            before_s = group.processor_s() - sum(os.times()[:4])
            with calls_of_mock(koji.builders[builder].first_process()) as ended:
                task = koji.build(plain_srpm, "--scratch")
                koji.expect(task)
            busy_s = group.processor_s() - sum(os.times()[:4]) - before_s
            info = koji.api.getTaskInfo(task)
            took_s = info["completion_ts"] - info["start_ts"]
            say(f"{way}, build {number + 1}: {took_s:.0f} s, {busy_s:.0f} s busy")
            say(f"    {'; '.join(ended)}")
            assert len(ended) == 7, ended
            if number:
                builds[way].append(took_s)
                busy[way].append(busy_s)
                calls[way].append(sum(float(one.split()[0]) for one in ended))
    local_s, local_busy_s = (statistics.median(one["local"]) for one in (calls, busy))
    for way in ways:
        build_s, call_s = statistics.median(builds[way]), statistics.median(calls[way])
        busy_s = statistics.median(busy[way])
        say(
            f"{way}: a build {build_s:.0f} s; its calls of mock {call_s:.1f} s,"
            f" {call_s / local_s:.2f}x; processor {busy_s:.1f} s, {busy_s / local_busy_s:.2f}x"
        )


@contextmanager
def calls_of_mock(builder: int) -> Iterator[list[str]]:
    """Seconds and words of calls of mock below the process `builder`, in their order."""
    seen: dict[int, tuple[float, str]] = {}
    ended: list[str] = []
    over = threading.Event()

    def look() -> None:
        now, running = time.monotonic(), family(builder)
        for pid, (parent, command) in running.items():
            if "-r koji/" in command and "-r koji/" not in running.get(parent, (0, ""))[1]:
                seen.setdefault(pid, (now, command.partition("-r koji/")[2].partition(" ")[2]))
        for pid in set(seen) - running.keys():
            began, words = seen.pop(pid)
            ended.append(f"{now - began:.1f} {words[:60]}")

    def watch() -> None:
        while not over.wait(_LOOK_EVERY_S):
            look()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield ended
    finally:
        over.set()
        watcher.join()
        look()
