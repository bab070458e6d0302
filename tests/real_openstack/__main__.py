# SPDX-License-Identifier: GPL-2.0-or-later
"""``python -m tests.real_openstack``: the services until Ctrl-C, for tests that are run often."""

from __future__ import annotations

import signal

from tests.real_openstack.cloud import find_missing, run_openstack


def main() -> None:
    missing = find_missing()
    if missing:
        raise SystemExit(f"no real OpenStack: {missing}")
    with run_openstack() as cloud:
        print(f"up: {cloud.seeded['keystone']}; logs: {cloud.state}/log", flush=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    main()
