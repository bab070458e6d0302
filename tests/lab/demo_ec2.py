# SPDX-License-Identifier: GPL-2.0-or-later
"""What `make demo-ec2` shows: a build through EC2's API, and an image that is not what it was.

The API is moto's server. Each instance that it is asked for boots as a machine with an address
of its own, set up by cloud-init from the user-data that the API was given.
"""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path

from tests.lab import srpm
from tests.lab.clouds import images
from tests.lab.clouds.ec2 import ACCESS_KEY, REGION, SECRET_KEY, Ec2Cloud
from tests.lab.copies import change_a_byte
from tests.lab.demo import REFUSED, VICTIM, Show, show_file
from tests.lab.layout import Lab, LabError

_KEYS = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
_PRICE = "0.02"


def perform(lab: Lab, own_srpm: Path | None) -> None:
    """Run the demonstration. LabError at the first thing that is not as it should be."""
    place = lab.root / "demo-ec2"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    package = own_srpm if own_srpm is not None else srpm.build(lab, srpm.hello(lab))
    with ExitStack() as stack:
        cloud = Ec2Cloud(lab)
        cloud.prepare()
        stack.enter_context(cloud)
        show = Show(place, cloud.write_config(place / "etc" / "mock"), _KEYS)
        stack.callback(
            show.quietly,
            "mock-cloud",
            "release",
            "--all",
            "--force",
            "--configdir",
            str(show.config.path),
        )
        _set_up(show, lab, cloud, "cloud", cloud.image_id)
        _build(show, package, cloud)
        _refuse(show, lab, package, cloud, place)
        _give_back(show, cloud)


def _set_up(show: Show, lab: Lab, cloud: Ec2Cloud, name: str, image: str) -> None:
    show.heading(f"the remote {name!r}: written and checked with the API")
    where = ("--provider", "ec2", "--region", REGION, "--endpoint", cloud.url)
    what = ("--image", image, "--size", "t3.small", "--price-per-hour", _PRICE, "--per-day", "1")
    known = ("--manifest", str(cloud.manifest), "--manifest-keys", str(lab.manifest_key))
    keys = (*known, "--package-keys", str(lab.package_key))
    directory = ("--directory", str(show.config.path / "remotes.d"))
    show.run("mock-cloud", "setup", name, *where, *what, *keys, *directory)


def _build(show: Show, package: Path, cloud: Ec2Cloud) -> None:
    results = show.place / "results"
    show.heading(f"build {package.name} on a new instance")
    cloud.calls.clear()
    cold_s = show.run(*show.mock("cloud", results, package))
    print(f"  API calls: {cloud.calls.summary()}")
    show.heading("what came back, in the local directory")
    for path in sorted(results.iterdir()):
        print(f"  {path.stat().st_size:>9,}  {path.name}")
    if not list(results.glob("*.rpm")):
        raise LabError("no package came back")
    show.heading("once more, on the warm instance")
    cloud.calls.clear()
    warm_s = show.run(*show.mock("cloud", results, package))
    print(f"  {cold_s:.1f} s cold, {warm_s:.1f} s warm; API calls: {cloud.calls.summary()}")
    show.run("mock-cloud", "nodes")


def _refuse(show: Show, lab: Lab, package: Path, cloud: Ec2Cloud, place: Path) -> None:
    show.heading("an image in which one byte was changed")
    tree = place / "tampered"
    change_a_byte(images.build(lab).tree, tree, VICTIM)
    _set_up(show, lab, cloud, "tampered", cloud.add_image(tree, "tampered"))
    results = place / "refused"
    show.run(*show.mock("tampered", results, package), expect=REFUSED)
    show_file(results / "remote_order.log", "the node's own log: no blob, no job")
    if " blob " in (results / "remote_order.log").read_text() or list(results.glob("*.rpm")):
        raise LabError("a refused node was sent something")


def _give_back(show: Show, cloud: Ec2Cloud) -> None:
    show.heading("everything given back; what the cloud itself lists")
    show.run("mock-cloud", "release", "--all", "--configdir", str(show.config.path))
    left = cloud.listing()
    print(f"  instances: {len(left.instances)}, volumes: {len(left.volumes)},", end="")
    print(f" key pairs: {len(left.key_pairs)}, addresses: {len(left.addresses)}")
    if not left.is_empty:
        raise LabError(f"something was left in the cloud: {left}")
