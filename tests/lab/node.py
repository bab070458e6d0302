# SPDX-License-Identifier: GPL-2.0-or-later
"""The node's image tree: an installation of the lab's release 1, as dnf makes it."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from mock_cloud.process import run
from tests.lab import foreign, generations, own, seeds
from tests.lab.bootable import settle
from tests.lab.keys import package_keys
from tests.lab.layout import Lab, code_digest, stamp_matches
from tests.lab.prepare import is_debian

_MODULES = ("node",)
_SYSTEMD_MODULES = ("bootable/boot", "bootable/settle")
_DNF_TIMEOUT_S = 600.0
_DATABASES = ("var/lib/rpm/rpmdb.sqlite", "usr/lib/sysimage/rpm/rpmdb.sqlite")

_NOTES = "/.lab-dnf"  # dnf takes these directories relative to the installation's root

_DNF_CONF = """\
[main]
gpgcheck=1
repo_gpgcheck=0
best=1
install_weak_deps=0
tsflags=
keepcache=0
plugins=0
cachedir={notes}/cache
persistdir={notes}/persist
logdir={notes}/log
reposdir={state}/none
varsdir={state}/none

[lab]
name=lab
baseurl={baseurl}
gpgkey={keys}
enabled=1
"""


def install(
    root: Path, *, baseurl: str, keys: Iterable[Path], packages: tuple[str, ...], arch: str = ""
) -> None:
    """dnf --installroot with signatures checked; `root` is made. Needs root.

    What dnf notes (caches, logs, history) is removed. The key that dnf imports to
    check the signatures is taken out again: the database then holds signed headers only.
    """
    root.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="lab-dnf-") as directory:
        state = Path(directory)
        (state / "none").mkdir()
        if is_debian():  # whose rpm puts a database below the caller's home
            (state / ".rpmmacros").write_text("%_dbpath /var/lib/rpm\n")
        home = {"HOME": directory}
        (state / "dnf.conf").write_text(
            _DNF_CONF.format(
                state=state,
                notes=_NOTES,
                baseurl=baseurl,
                keys=" ".join(f"file://{key}" for key in keys),
            )
        )
        dnf = ["dnf", "-q", "-y", "-c", str(state / "dnf.conf"), "--installroot", str(root)]
        dnf += [f"--forcearch={arch}"] if arch else []
        run(
            [*dnf, "--releasever=1", "install", *packages],
            timeout_s=_DNF_TIMEOUT_S,
            extra_env=home,
        )
        run(
            ["rpm", "--root", str(root), "-e", "--allmatches", "gpg-pubkey"],
            timeout_s=60,
            extra_env=home,
        )
    shutil.rmtree(root / _NOTES.lstrip("/"))


def _settle(root: Path) -> None:
    """Bring caches up to date and take out what belongs to this machine or this moment."""
    run(["chroot", str(root), "/sbin/ldconfig"], timeout_s=60)  # its own: it knows its machine
    (root / "var/cache/ldconfig/aux-cache").unlink(missing_ok=True)
    (root / "etc/machine-id").write_text("")
    (database,) = (place for place in map(root.joinpath, _DATABASES) if place.is_file())
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for name in ("rpmdb.sqlite-wal", "rpmdb.sqlite-shm"):
        (database.parent / name).unlink(missing_ok=True)


def _packages(lab: Lab) -> tuple[str, ...]:
    if lab.is_foreign:
        return (*seeds.NODE, foreign.EMULATOR)
    if is_debian():
        return generations.of(lab).node
    from tests.lab import fedora

    return fedora.NODE


def build(lab: Lab) -> bool:
    """Make `lab.tree` unless it is there for the same distribution; returns whether it was made."""
    modules = (*_MODULES, *(_SYSTEMD_MODULES if lab.has_systemd else ()))
    key = (lab.dist / "key").read_text() + code_digest(modules)
    stamp = lab.tree.parent / "key"
    if stamp_matches(stamp, key):
        return False
    shutil.rmtree(lab.tree.parent, ignore_errors=True)
    lab.tree.parent.mkdir(parents=True)
    make_tree(lab, lab.tree, _packages(lab))
    stamp.write_text(key)
    return True


def make_tree(lab: Lab, tree: Path, packages: tuple[str, ...]) -> None:
    """An installation of `packages` of release 1 at `tree`, ready to boot."""
    fresh = tree.with_suffix(".part")
    install(
        fresh,
        baseurl=f"file://{lab.release(1)}",
        keys=package_keys(lab),
        packages=packages,
        arch=lab.arch if lab.is_foreign else "",
    )
    if not is_debian():
        (fresh / "etc/ssh/sshd_config").write_text(own.SSHD_CONFIG)
    _settle(fresh)
    if lab.has_systemd:
        settle.with_systemd(fresh)
    fresh.rename(tree)
