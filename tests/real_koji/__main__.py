# SPDX-License-Identifier: GPL-2.0-or-later
"""``python -m tests.real_koji``: a Koji until Ctrl-C; ``… demo`` is what make demo-koji shows."""

from __future__ import annotations

import signal
import sys

from mock_cloud.errors import MockCloudError
from tests.lab.clouds.ec2 import Ec2Cloud
from tests.lab.layout import default_lab
from tests.real_koji import demo, programs
from tests.real_koji.system import run_koji


def _serve() -> None:
    cloud = Ec2Cloud(default_lab())
    cloud.prepare()
    with cloud, run_koji(cloud) as koji:
        print(f"up: {koji.command} build --scratch lab SRPM; logs: {koji.place}/log", flush=True)
        signal.pause()


def main() -> int:
    missing = programs.find_missing()
    if missing:
        print(f"no Koji: {missing}", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if sys.argv[1:] == ["demo"]:
            demo.perform(default_lab())
        else:
            _serve()
    except KeyboardInterrupt:
        pass
    except MockCloudError as error:
        print(f"koji: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"koji: {error.hint}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
