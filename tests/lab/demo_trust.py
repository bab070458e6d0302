# SPDX-License-Identifier: GPL-2.0-or-later
"""`make demo-trust`: two builders, signed results that are checked elsewhere, one that differs.

Everything it shows is done by the commands it prints. The second package is one that no two
builders make alike: what a lying builder's results look like from outside.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path

from tests.lab import chroots, srpm
from tests.lab.copies import change_last_byte
from tests.lab.demo import REFUSED, Show
from tests.lab.http import FileServer
from tests.lab.layout import Lab, LabError

_DISAGREED = 76
_RANDOM = srpm.toy(
    "toy-random",
    preamble="BuildArch: noarch\n",
    install="cat /proc/sys/kernel/random/uuid > %{buildroot}%{_datadir}/toy-random/word",
)


def perform(lab: Lab, own_srpm: Path | None, place: Path) -> None:
    """Run the demonstration in `place`. LabError at the first thing that is not as it should be."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    source = own_srpm if own_srpm is not None else srpm.build(lab, srpm.hello(lab))
    package = Path(shutil.copy(source, place))
    other = Path(shutil.copy(srpm.build(lab, _RANDOM), place))
    with ExitStack() as stack:
        server = stack.enter_context(FileServer({"/dist": lab.dist}))
        config = chroots.write(lab, place / "etc" / "mock", repository_url=f"{server.url}/dist")
        text = config.remote_file.read_text()
        for name in ("alpha", "beta"):
            config.remote_file.with_name(f"{name}.toml").write_text(text)
        show = Show(place, config)
        stack.callback(show.quietly, "mock-cloud", "release", "--all")
        words = ("--", "--configdir", str(config.path), "-r", config.chroot())
        both = ("mock-cloud", "duplicate", "--remote", "alpha", "--remote", "beta", "--resultdir")
        show.heading("A package is built by two builders at once, and published: they agree.")
        show.run(*both, "results", *words, package.name)
        show.run("ls", "results")
        _verify(show, place)
        show.heading("A package that two builders do not make alike: nothing is published.")
        show.run(*both, "others", *words, other.name, expect=_DISAGREED)
        show.run("mock-cloud", "trust", "list")
        show.heading("Pages for people: what was built and what was changed; both sides at once.")
        show.run("mock-cloud", "report", "results", "elsewhere", "-o", "report.html")
        sides = sorted(map(str, (place / "others").glob("disagreed-*/*a")))
        names = [str(Path(side).relative_to(place)) for side in sides]
        show.run("mock-cloud", "report", *names, "-o", "disagreed.html")
        show.heading("Whoever is flagged gets no work until a person says what it was.")
        show.run(*show.mock("alpha", "more", package), expect=75)
        for number in _flags(place, show):
            show.run("mock-cloud", "trust", "resolve", str(number), "--cleared",
                     "--reason", "the package is random")  # fmt: skip
        show.run("mock-cloud", "trust", "list")
        show.run("mock-cloud", "trust", "check")


def _verify(show: Show, place: Path) -> None:
    show.heading("Somebody else has the results and a public key, and nothing of this machine.")
    shutil.copytree(place / "results", place / "elsewhere")
    shutil.copy(place / "state/mock-cloud/provenance-key.pub", place / "builder.pub")
    verify = ("mock-cloud", "verify", "elsewhere", "--keys", "builder.pub")
    show.run(*verify)
    package = min((place / "elsewhere").glob("*.rpm"))
    show.heading(f"One byte of {package.name} is changed.")
    change_last_byte(package)
    show.run(*verify, expect=REFUSED)


def _flags(place: Path, show: Show) -> list[int]:
    argv = show._command(("mock-cloud", "trust", "list", "--json"))
    rows = json.loads(subprocess.check_output(argv, env=show._env, cwd=place))
    numbers = [number for row in rows for number in row["flags"]]
    if len(numbers) != 2:
        raise LabError(f"{len(numbers)} flags are open, not two")
    return numbers
