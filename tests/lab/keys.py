# SPDX-License-Identifier: GPL-2.0-or-later
"""OpenPGP keys of the lab, and signing packages with them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from mock_cloud.process import run
from tests.lab import generations
from tests.lab.layout import KEY_NAME, SECOND_KEY_NAME, Lab

LAB_USER = "Lab Distribution <lab@lab.invalid>"
SECOND_USER = "Lab Distribution, second key <lab2@lab.invalid>"
FOREIGN_USER = "Somebody Else <else@foreign.invalid>"
_USERS = {KEY_NAME: LAB_USER, SECOND_KEY_NAME: SECOND_USER}


@contextmanager
def gnupg_home(lab: Lab) -> Iterator[dict[str, str]]:
    """The environment in which gpg uses the lab's keys; its agent ends with the block.

    The home is reached through a short link: gpg-agent's socket path may not exceed 107 bytes.
    """
    home = lab.keys / "gnupg"
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="lab-gpg-", dir="/tmp") as short:
        entrance = Path(short) / "g"
        entrance.symlink_to(home.resolve())
        env = {"GNUPGHOME": str(entrance)}
        try:
            yield env
        finally:
            run(["gpgconf", "--kill", "all"], timeout_s=30, extra_env=env)


def ensure_keys(lab: Lab) -> None:
    """Make the key pairs and export their public parts, where that is not done yet."""
    own = dict(zip(package_keys(lab), generations.of(lab).key_kinds, strict=True))
    wanted = {
        **{place: (_USERS[place.name], kind) for place, kind in own.items()},
        lab.foreign_key: (FOREIGN_USER, "rsa3072"),
    }
    if all(place.is_file() for place in wanted):
        return
    with gnupg_home(lab) as env:
        for place, (user, kind) in wanted.items():
            if place.is_file():
                continue
            make = ["gpg", "--batch", "--quiet", "--passphrase", "", "--pinentry-mode", "loopback"]
            run(
                [*make, "--quick-generate-key", user, kind, "sign", "never"],
                timeout_s=120,
                extra_env=env,
            )
            text = run(["gpg", "--armor", "--export", f"={user}"], timeout_s=30, extra_env=env)
            partial = place.with_suffix(".part")
            partial.write_bytes(text)
            partial.replace(place)


def package_keys(lab: Lab) -> tuple[Path, ...]:
    """The public halves of the keys that each package of the distribution is signed with."""
    both = (lab.package_key, lab.second_key)
    return both[: len(generations.of(lab).key_kinds)]


def sign_all(lab: Lab, packages: Sequence[Path]) -> None:
    """Sign RPM files in place with each of the distribution's keys."""
    for place in package_keys(lab):
        sign(lab, packages, _USERS[place.name])


def sign(lab: Lab, packages: Sequence[Path], user: str = LAB_USER) -> None:
    """Sign RPM files in place with the key of `user`, a batch for each core."""
    workers = os.cpu_count() or 1
    batches = [list(map(str, packages[start::workers])) for start in range(workers)]
    with gnupg_home(lab) as env, ThreadPoolExecutor(workers) as pool:
        # The first caller starts the agent; starting two at once makes one of them wait.
        run(["gpg-connect-agent", "/bye"], timeout_s=30, extra_env=env)
        gpg = shutil.which("gpg") or "/usr/bin/gpg"  # rpmsign does not search PATH
        argv = ["rpmsign", "--define", f"__gpg {gpg}", "--define", f"_gpg_name {user}", "--addsign"]
        futures = [
            pool.submit(run, [*argv, *batch], timeout_s=600, extra_env=env)
            for batch in batches
            if batch
        ]
        for future in futures:
            future.result()
