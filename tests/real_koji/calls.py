# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes calls of a hub as its administrator, all at once. Run with Koji's modules, not the lab's.

Standard input is JSON: the hub's URL and a list of [name, arguments, keyword arguments].
"""

import json
import sys

import koji  # type: ignore[import-not-found]

if __name__ == "__main__":
    url, calls = json.load(sys.stdin)
    session = koji.ClientSession(url, {"user": "admin", "password": "admin"})
    session.login()
    with session.multicall(strict=True) as together:
        for name, words, named in calls:
            getattr(together, name)(*words, **named)
    session.logout()
