#!/usr/bin/python3 -IS
# SPDX-License-Identifier: GPL-2.0-or-later
"""dmidecode(8) for a node whose kernel has no DMI: what the lab's hypervisor says it is.

cloud-init asks for it by ``--string KEYWORD``, and takes a node for one of EC2's, with its metadata
tokens, where the serial number and the UUID are one that begins with ``ec2``.
"""

import sys

KEYWORDS = ("system-uuid", "system-serial-number")


def find_uuid():
    """The UUID that the first process was given; empty if none."""
    with open("/proc/1/environ", "rb") as stream:
        pairs = (entry.partition(b"=") for entry in stream.read().split(b"\0"))
        return next((value.decode() for name, _, value in pairs if name == b"SYSTEM_UUID"), "")


def main():
    uuid = find_uuid()
    if not uuid or sys.argv[1:-1] != ["--string"] or sys.argv[-1] not in KEYWORDS:
        return 1
    print(uuid)
    return 0


if __name__ == "__main__":
    sys.exit(main())
