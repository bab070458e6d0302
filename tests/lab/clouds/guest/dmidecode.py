#!/usr/bin/python3 -IS
# SPDX-License-Identifier: GPL-2.0-or-later
"""dmidecode(8) --string for nodes in namespaces, which have no firmware tables of their own.

The hypervisor gives the first process ``DMI_…`` variables instead; cloud-init recognises clouds by
them.
"""

import sys


def main():
    if len(sys.argv) != 3 or sys.argv[1] not in ("-s", "--string"):
        sys.exit("usage: dmidecode --string KEYWORD")
    name = b"DMI_" + sys.argv[2].upper().replace("-", "_").encode()
    with open("/proc/1/environ", "rb") as stream:
        given = dict(pair.partition(b"=")[::2] for pair in stream.read().split(b"\0"))
    print(given.get(name, b"").decode())


if __name__ == "__main__":
    main()
