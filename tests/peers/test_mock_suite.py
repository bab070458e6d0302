# SPDX-License-Identifier: GPL-2.0-or-later
"""mock's own integration tests, read from a checkout, on real mock and on both engines."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.lab.http import FileServer
from tests.peers import document, suite
from tests.peers.conftest import ENGINES
from tests.peers.reasons import REASONS
from tests.peers.sides import Played, Side

pytestmark = [pytest.mark.lab, pytest.mark.slow]

SIDES = ("local", *ENGINES)


SUITE = Path(os.environ.get("MOCK_CLOUD_TEST_MOCK", "/")).parent.parent / "integration-tests"
SCRIPTS = sorted(path.name for path in SUITE.glob("*.tst"))
NSPAWN = shutil.which("systemd-nspawn") is not None

_ABOUT = """\
The scripts of `mock/integration-tests`, read from a checkout, in one chroot and in their order.
Where the chroot is on a node, a look into its directory is a `mock --chroot -- test`. What they
download, and `ccache`, are packages of the lab under the same names. Where systemd-nspawn is not
installed, their loops over both isolations do the simple one; the chroot engine, which has no
bootstrap chroot, does their loops without.
"""


@pytest.fixture(scope="module")
def seen() -> dict[tuple[str, str], Played]:
    return {}


@pytest.fixture(scope="module", params=SIDES)
def side(request: pytest.FixtureRequest, sides: Mapping[str, Side]) -> Iterator[Side]:
    if not SCRIPTS:
        pytest.skip("no integration-tests beside mock.py: set MOCK_CLOUD_TEST_MOCK to a checkout's")
    side = sides[request.param]
    suite.prepare(side)
    given = suite.environment(SUITE, side, "")
    # Where it was written mock has bootstrap chroots, and scripts go on with --offline.
    for bootstrap in ["--bootstrap-chroot"] * (side.name != "chroot") + [""]:
        init = ["sh", "-c", f"$MOCKCMD {bootstrap} --init"]
        started = side.run(init, env=given, cwd=SUITE.parent)
        assert started.code == 0, started.output
    yield side
    side.run(["sh", "-c", "$MOCKCMD --scrub=all"], env=given, cwd=SUITE.parent)


@pytest.mark.parametrize("name", SCRIPTS or ["-"])
def test_script(
    name: str, side: Side, shop: FileServer, seen: dict[tuple[str, str], Played]
) -> None:
    """It passes, or there is a reason, which is out of date once it passes."""
    url = f"{shop.url}/shop"
    has = {"nspawn": NSPAWN, "bootstrap": side.name != "chroot", "remote": side.name in ENGINES}
    text = suite.read(SUITE / name, url, **has)
    # config_opts['cache_topdir'], and the chroot's name there
    text = text.replace("/var/cache/mock/$testConfig/", f"{side.place}/cache/{side.root}/")
    given = suite.environment(SUITE, side, f"{url}/mock-6.7-1.src.rpm")
    played = side.run(suite.command(text), env=given, cwd=SUITE.parent, as_user=True)
    suite.end_agent(side)
    seen[name, side.name] = played
    if os.environ.get("KEEP"):
        (Path(os.environ["KEEP"]) / f"{side.name}-{name}").write_text(
            f"{played.code}\n{played.output}"
        )
    assert (played.code == 0) != (_reason(name, side.name) != ""), played.output


def _reason(name: str, side: str) -> str:
    return REASONS.get((name, side), REASONS.get((name, ""), ""))


def test_the_document(seen: dict[tuple[str, str], Played]) -> None:
    if set(seen) != {(name, side) for name in SCRIPTS for side in SIDES} or not seen:
        pytest.skip("only some scripts were run")
    if any((one.code == 0) != (_reason(*key) == "") for key, one in seen.items()):
        pytest.skip("some scripts did not end as they should")
    numbers: dict[str, int] = {}
    rows = []
    for name in SCRIPTS:
        cells = []
        for side in SIDES:
            reason = _reason(name, side)
            number = numbers.setdefault(reason, len(numbers) + 1) if reason else 0
            calls = seen[name, side].calls
            took = f"{len(calls)} calls, {sum(call.seconds for call in calls):.0f} s"
            cells.append(f"fails ({number})" if reason else f"passes: {took}")
        rows.append([name, *cells])
    header = ["script", "real mock", *(f"`{name}` engine" for name in ENGINES)]
    reasons = "\n".join(f"{number}. {reason}" for reason, number in numbers.items())
    document.write_section(
        "mock's integration tests", f"{_ABOUT}\n{document.table(header, rows)}\n{reasons}"
    )
