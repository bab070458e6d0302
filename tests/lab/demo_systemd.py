# SPDX-License-Identifier: GPL-2.0-or-later
"""What `make demo-systemd` shows: machines with systemd, from a stock image to a refused node.

The machines are QEMU's, with firmware, boot loader, kernel and systemd of their own, behind EC2's
API (moto's server). Emulated, each takes a minute to boot.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

from tests.lab import srpm
from tests.lab.bootable.examples import unit_package
from tests.lab.clouds.ec2 import ACCESS_KEY, REGION, SECRET_KEY, SIZE, Ec2Cloud
from tests.lab.demo import REFUSED, Show
from tests.lab.keys import package_keys
from tests.lab.layout import Lab, LabError

_KEYS = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
_MISSING = 3
_PATIENCE = ("--boot-timeout", "30m", "--connect-timeout", "10m", "--silence-timeout", "20m")
_MANIFEST = "image.dsse.json"
_DROP_IN = "/etc/systemd/system/chrony.service.d/extra.conf"
_TAMPER = f"""\
mkdir -p {Path(_DROP_IN).parent}
printf '[Service]\\nExecStartPost=/bin/sh /root/more\\n' > {_DROP_IN}
"""


def perform(lab: Lab, own_srpm: Path | None) -> None:
    """Run the demonstration in a lab that has systemd. LabError at what is not as it should be."""
    place = lab.root / "demo-systemd"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    source = own_srpm if own_srpm is not None else srpm.build(lab, unit_package().recipe)
    package = Path(shutil.copy(source, place))
    began_s = time.monotonic()
    with ExitStack() as stack:
        cloud = Ec2Cloud(lab)
        cloud.prepare()
        stack.enter_context(cloud)
        config = cloud.write_config(place / "etc" / "mock")
        for file in (config.path / "remotes.d").iterdir():  # those of the lab's tests
            file.unlink()
        show = Show(place, config, _KEYS)
        stack.callback(show.quietly, "mock-cloud", "release", "--all", "--force")
        _bake(show, cloud)
        show.heading("A package is built on a new machine of that image, once it is attested.")
        show.run(*show.mock("cloud", "results", package))
        show.run("ls", "results")
        _refuse(show, package)
        show.heading("Everything is given back; what the cloud itself lists:")
        show.run("mock-cloud", "release", "--all")
        left = cloud.listing()
        print(f"(instances: {len(left.instances)}, images: {len(left.images)})")
        if left.instances:
            raise LabError(f"something was left in the cloud: {left}")
    print(f"\n# Done in {time.monotonic() - began_s:.0f} s. The pages are in {place}.")


def _bake(show: Show, cloud: Ec2Cloud) -> None:
    key = show.place / "image-key"
    show.heading("A stock image, as a distribution publishes it: nobody signed for what is in it.")
    show.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "image-key")
    _set_up(show, cloud, "--image", cloud.image_id, expect=_MISSING)
    show.heading("An image of one's own, from it. Who bakes vouches for what has no signature:")
    bake = ("mock-cloud", "image", "bake", "cloud", "--sign-key", key.name, "--output", _MANIFEST)
    show.run(*bake, "--accept-unverified-base", "--repo", f"{cloud.repository_url}/1")
    listed = json.loads(show.output("mock-cloud", "image", "list", "cloud", "--json"))
    (image,) = (one["image"] for one in listed if one["base"])
    show.heading("Both go into the remote's file.")
    _set_up(show, cloud, "--image", image, "--manifest", _MANIFEST)


def _set_up(show: Show, cloud: Ec2Cloud, *words: str, expect: int = 0) -> None:
    where = ("--provider", "ec2", "--region", REGION, "--endpoint", cloud.url)
    what = ("--size", SIZE, "--price-per-hour", "0.02", "--per-day", "1", *_PATIENCE)
    keys = ",".join(map(str, package_keys(cloud.lab)))
    known = ("--manifest-keys", "image-key.pub", "--package-keys", keys)
    directory = ("--directory", str(show.config.path / "remotes.d"))
    command = ("mock-cloud", "setup", "cloud", "--batch", "--force")
    show.run(*command, *where, *what, *known, *words, *directory, expect=expect)


def _refuse(show: Show, package: Path) -> None:
    show.heading(f"Somebody who is root on the machine leaves a drop-in: {_DROP_IN}")
    (node,) = json.loads(show.output("mock-cloud", "nodes", "--json"))
    key = show.place / "state/mock-cloud/keys" / node["lease"]
    options = ["-F", "none", "-i", str(key), "-o", "BatchMode=yes"]
    options += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    argv = ["ssh", "-q", *options, node["address"].partition(":")[0], "sh", "-s"]
    subprocess.run(argv, input=_TAMPER, text=True, check=True, timeout=300)
    show.run(*show.mock("cloud", "refused", package), expect=REFUSED)
    if list((show.place / "refused").glob("*.rpm")):
        raise LabError("a refused node was sent something")
