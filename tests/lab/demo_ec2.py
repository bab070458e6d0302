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
from tests.lab.demo import REFUSED, Show
from tests.lab.layout import Lab, LabError

_KEYS = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
_PRICE = "0.02"


def perform(lab: Lab, own_srpm: Path | None) -> None:
    """Run the demonstration. LabError at the first thing that is not as it should be."""
    place = lab.root / "demo-ec2"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    source = own_srpm if own_srpm is not None else srpm.build(lab, srpm.hello(lab))
    package = Path(shutil.copy(source, place))
    with ExitStack() as stack:
        cloud = Ec2Cloud(lab)
        cloud.prepare()
        stack.enter_context(cloud)
        show = Show(place, cloud.write_config(place / "etc" / "mock"), _KEYS)
        stack.callback(show.quietly, "mock-cloud", "release", "--all", "--force")
        _set_up(show, lab, cloud, "cloud", cloud.image_id)
        _build(show, package, cloud)
        _refuse(show, lab, package, cloud, place)
        _give_back(show, cloud)


def _set_up(show: Show, lab: Lab, cloud: Ec2Cloud, name: str, image: str) -> None:
    show.heading(f"The remote {name!r}: written, and checked with the API.")
    where = ("--provider", "ec2", "--region", REGION, "--endpoint", cloud.url)
    what = ("--image", image, "--size", "t3.small", "--price-per-hour", _PRICE, "--per-day", "1")
    known = ("--manifest", str(cloud.manifest), "--manifest-keys", str(lab.manifest_key))
    # The lab's machines share this one's kernel, which a cloud's do not.
    keys = (*known, "--package-keys", str(lab.package_key), "--unsafe-containers", "true")
    directory = ("--directory", str(show.config.path / "remotes.d"))
    show.run("mock-cloud", "setup", name, "--batch", *where, *what, *keys, *directory)


def _build(show: Show, package: Path, cloud: Ec2Cloud) -> None:
    show.heading("A package is built on a new instance.")
    cloud.calls.clear()
    show.run(*show.mock("cloud", "results", package))
    print(f"(API calls: {cloud.calls.summary()})")
    show.run("ls", "results")
    if not list((show.place / "results").glob("*.rpm")):
        raise LabError("no package came back")
    show.heading("Once more, on the warm instance.")
    cloud.calls.clear()
    show.run(*show.mock("cloud", "results", package))
    print(f"(API calls: {cloud.calls.summary()})")
    show.run("mock-cloud", "nodes")


def _refuse(show: Show, lab: Lab, package: Path, cloud: Ec2Cloud, place: Path) -> None:
    show.heading("An image in which one byte was changed.")
    tree, stock = place / "tampered", images.build(lab).tree
    change_a_byte(stock, tree, "usr/bin/rpm")
    _set_up(show, lab, cloud, "tampered", cloud.add_image(tree, "tampered"))
    show.run(*show.mock("tampered", "refused", package), expect=REFUSED)
    show.heading("What the refused node was sent, by its own log: no source, no job.")
    show.run("cat", "refused/remote_order.log")
    results = place / "refused"
    if " blob " in (results / "remote_order.log").read_text() or list(results.glob("*.rpm")):
        raise LabError("a refused node was sent something")


def _give_back(show: Show, cloud: Ec2Cloud) -> None:
    show.heading("Everything is given back; what the cloud itself lists:")
    show.run("mock-cloud", "release", "--all")
    left = cloud.listing()
    print(f"(instances: {len(left.instances)}, volumes: {len(left.volumes)},", end="")
    print(f" key pairs: {len(left.key_pairs)}, addresses: {len(left.addresses)})")
    if not left.is_empty:
        raise LabError(f"something was left in the cloud: {left}")
