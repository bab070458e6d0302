# SPDX-License-Identifier: GPL-2.0-or-later
"""``python -m tests.real_openstack``: the services until Ctrl-C, for tests that are run often."""

from __future__ import annotations

import signal
from contextlib import suppress

from tests.real_openstack.cloud import find_missing, run_openstack


def main() -> None:
    missing = find_missing()
    if missing:
        raise SystemExit(f"no real OpenStack: {missing}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt), run_openstack() as cloud:
        print(f"up: {cloud.seeded['keystone']}; logs: {cloud.state}/log", flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
