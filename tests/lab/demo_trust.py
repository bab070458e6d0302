# SPDX-License-Identifier: GPL-2.0-or-later
"""`make demo-trust`: machines of three owners, results that are checked elsewhere, and a liar.

Everything it shows is done by the commands it prints. The liar is a machine that is measured like
the others, and changes an object file of what it built before anybody looks at it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from mock_cloud.sshkeys import make_key_pair
from tests.attack.lying_machine import lying, two_objects
from tests.lab import srpm
from tests.lab.copies import change_last_byte
from tests.lab.demo import REFUSED, Show
from tests.lab.layout import Lab, LabError, locked
from tests.lab.volunteers import Volunteer, Volunteers, build

_DISAGREED, _DIFFERENT, _INFRASTRUCTURE = 76, 1, 75
_OWNERS = {name: make_key_pair() for name in ("alpha", "beta", "gate")}
_POLICY = "owner_signed = true   # the machine's owner signed for it, too\nmax_age_days = 30\n"


def perform(lab: Lab, own_srpm: Path | None, place: Path) -> None:
    """Run the demonstration in `place`. LabError at the first thing that is not as it should be."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    source = own_srpm if own_srpm is not None else srpm.build(lab, srpm.hello(lab))
    package = Path(shutil.copy(source, place))
    objects = Path(shutil.copy(srpm.build(lab, two_objects()), place))
    with locked(lab):
        build(lab)
    began_s = time.monotonic()
    with ExitStack() as stack:
        # Disks and keys of machines, which are no part of what the user has.
        theirs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="demo-trust-")))
        machines = stack.enter_context(Volunteers(lab, theirs, owners=_OWNERS))
        config = machines.write_config(place / "etc" / "mock")
        config.remote_file.rename(config.remote_file.with_name("release.toml"))
        show = Show(place, config)
        stack.callback(show.quietly, "mock-cloud", "release", "--all")
        _prepare_lies(show, lab, theirs / "lies")
        address, _ = stack.enter_context(lying(machines, machines.gate, theirs / "lies"))
        stack.callback(show.quietly, "mock-cloud", "release", "--all")  # while it can be reached
        lent = (_table(machines, one) for one in (machines.alpha, machines.beta))
        machines.write_remote(config, "volunteers", *lent)
        machines.write_remote(config, "more", _table(machines, machines.gate, address),
                              '[audit]\nremotes = ["volunteers"]\n')  # fmt: skip
        _agree(show, package)
        _verify(show, place)
        _lie(show, objects, place)
        _resolve(show, objects, place, f"host:{machines.gate.host_key.fingerprint}")
        show.run("mock-cloud", "report", "results", "elsewhere", "-o", "report.html")
    print(f"\n# Done in {time.monotonic() - began_s:.0f} s. The pages are in {place}.")


def _table(machines: Volunteers, one: Volunteer, address: str = "") -> str:
    key = _OWNERS[one.name].public
    more = f'identity = "{machines.user_key}"\nowner_key = "{key}"'
    return one.table(address=address, more=more)


def _prepare_lies(show: Show, lab: Lab, lies: Path) -> None:
    """The package that the liar has ready: the same, but for one object file."""
    lies.mkdir()
    trojaned = srpm.build(lab, two_objects(result=1))
    words = ("--remote", "release", "--resultdir", str(lies / "built"), str(trojaned))
    show.quietly("mock", "-r", show.config.chroot(), *words)
    for package in (lies / "built").glob("*.rpm"):
        if not package.name.endswith(".src.rpm"):
            shutil.copy(package, lies)
    if not list(lies.glob("*.rpm")):
        raise LabError("the liar's package could not be built")


def _agree(show: Show, package: Path) -> None:
    show.heading("A package is built on the machines of two owners, and published: they agree.")
    show.run(*show.mock("volunteers", "results", package), "--duplicate", "2")
    show.run("ls", "results")


def _verify(show: Show, place: Path) -> None:
    show.heading("Somebody else has the results and a public key, and nothing of this machine.")
    shutil.copytree(place / "results", place / "elsewhere")
    shutil.copy(place / "state/mock-cloud/provenance-key.pub", place / "builder.pub")
    (place / "policy.toml").write_text(_POLICY)
    verify = ("mock-cloud", "verify", "elsewhere", "--keys", "builder.pub", "--policy")
    show.run(*verify, "policy.toml")
    package = min((place / "elsewhere").glob("*.rpm"))
    show.heading(f"One byte of {package.name} is changed.")
    change_last_byte(package)
    show.run(*verify, "policy.toml", expect=REFUSED)


def _lie(show: Show, objects: Path, place: Path) -> None:
    show.heading(
        "A third owner's machine changes an object file after the build. What is measured of it is"
        " as it should be, so it is attested; but another owner's machine built the same."
    )
    show.run(*show.mock("more", "others", objects), "--duplicate", "2", expect=_DISAGREED)
    show.run("mock-cloud", "trust", "list")
    show.heading("Both sides on a page for people. Who is flagged gets no work.")
    show.run("mock-cloud", "report", *_sides(place), "-o", "disagreed.html")
    show.run(*show.mock("more", "again", objects), expect=_INFRASTRUCTURE)


def _sides(place: Path) -> list[str]:
    """The liar's directory, then the honest one."""
    found = sorted((place / "others").glob("disagreed-*/*/"))
    return [str(path.relative_to(place)) for path in found]


def _resolve(show: Show, objects: Path, place: Path, liars_name: str) -> None:
    show.heading("A third build, on a machine that one trusts, shows who lied; a person says so.")
    show.run(*show.mock("release", "third", objects))
    liar, honest = _sides(place)
    show.run("mock-cloud", "compare", "third", honest)
    show.run("mock-cloud", "compare", "third", liar, expect=_DIFFERENT)
    for number, builder in _flags(place, show):
        words = ("--cleared", "--reason", "the third build agrees with it")
        if builder == liars_name:
            words = ("--guilty", "--reason", "an object file of its own")
        show.run("mock-cloud", "trust", "resolve", str(number), *words)
    show.run("mock-cloud", "trust", "list")
    show.run("mock-cloud", "trust", "check")


def _flags(place: Path, show: Show) -> list[tuple[int, str]]:
    argv = show._command(("mock-cloud", "trust", "list", "--json"))
    rows = json.loads(subprocess.check_output(argv, env=show._env, cwd=place))
    found = [(number, row["builder"]) for row in rows for number in row["flags"]]
    if len(found) != 2:
        raise LabError(f"{len(found)} flags are open, not two")
    return found
