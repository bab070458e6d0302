# SPDX-License-Identifier: GPL-2.0-or-later
"""python -m tests.lab cloud: one of the clouds in the foreground, for people who try things."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.lab.clouds.cloud import Cloud
from tests.lab.layout import Lab, locked

NAMES = ("ec2", "openstack")


def make(name: str, lab: Lab) -> Cloud:
    """The cloud called `name`, not started; its stock image is made if the lab has none."""
    if name == "ec2":
        from tests.lab.clouds.ec2 import Ec2Cloud as Chosen
    else:
        from tests.lab.clouds.openstack import OpenStackCloud as Chosen  # type: ignore[assignment]
    cloud: Cloud = Chosen(lab)
    with locked(lab):
        cloud.prepare()
    return cloud


def serve(name: str, lab: Lab, etc: Path) -> None:
    """Run a cloud until SIGINT or SIGTERM, after saying how to use it."""
    ending = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, ending)  # before there are threads
    with make(name, lab) as cloud:
        written = cloud.write_config(etc)
        print(f"lab: {name} at {cloud.url}, stock image {cloud.image_id}")
        for setting in cloud.environment(etc):
            print(f"export {setting}")
        for remote in sorted((etc / "remotes.d").glob("*.toml")):
            if remote.stem != "local":
                chroot = written.chroot()
                print(f"mock --configdir {etc} -r {chroot} --remote {remote.stem} SRPM", flush=True)
        signal.sigwait(ending)
