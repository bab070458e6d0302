# SPDX-License-Identifier: GPL-2.0-or-later
"""Minimal Debian systems: made by mmdebstrap from this machine's own mirror, kept as archives.

An archive is what mmdebstrap wrote; each use unpacks it anew, so that every system is fresh. What
apt and pip download is kept beside it, for time and for the mirror's sake.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from mock_cloud.process import CommandFailed, run
from tests.lab.layout import LabError

SUITES = {"bookworm": "Debian 12", "trixie": "Debian 13", "forky": "Debian testing"}
CACHE = Path("/var/cache/mock-cloud-releases")
NEWEST = "forky"  # the newest Python, rpm and dnf

# What README asks for: the rest is installed by the commands under test.
INCLUDED = ("ca-certificates", "git", "make", "python3")
_DEBOOTSTRAP_TIMEOUT_S = 1200.0
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
# Of pip's settings those that say where packages are; what pins versions is this machine's own.
_PIP_SETTINGS = ("index-url", "extra-index-url", "cert", "proxy", "trusted-host", "timeout")


def find_obstacle() -> str | None:
    """Why no tree can be made on this machine, or None."""
    absent = [name for name in ("apt-get", "mmdebstrap", "unshare") if not shutil.which(name)]
    return f"needs {' and '.join(absent)}" if absent else None


def find_mirror() -> str:
    """The archive of Debian that this machine's apt uses. Raises `LabError`."""
    argv = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(COMPONENT) $(RELEASE)"]
    lines = run([*argv, "Identifier: Packages"], timeout_s=60).decode().splitlines()
    for line in lines:
        uri, component, release = line.split()
        # Suites of updates are beside the release in one archive, security's are in another.
        if component == "main" and "security" not in f"{uri} {release}":
            return uri
    raise LabError("apt on this machine knows no Debian archive", hint="see sources.list(5)")


def make(suite: str, cache: Path) -> Path:
    """The archive of a minimal system of `suite`, made unless `cache` has it. Needs root."""
    archive = cache / f"{suite}.tar"
    if archive.is_file():
        return archive
    cache.mkdir(parents=True, exist_ok=True)
    partial = cache / f".{suite}.tar"
    mirror = find_mirror()
    argv = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(INCLUDED)}"]
    # A mirror that is frozen, or a copy of one, has an index whose time is over.
    argv += ['--aptopt=Acquire::Check-Valid-Until "false"', '--aptopt=Acquire::Languages "none"']
    argv += ["--dpkgopt=force-unsafe-io"]
    try:
        run(
            [*argv, suite, str(partial), f"deb {mirror} {suite} main"],
            timeout_s=_DEBOOTSTRAP_TIMEOUT_S,
            extra_env={"TMPDIR": str(cache)},
        )
    except CommandFailed as error:
        raise LabError(f"no system of {suite}: {error}") from error
    return partial.rename(archive)


def unpack(suite: str, cache: Path, root: Path) -> None:
    """A fresh system of `suite` at `root`, which is made, with this machine's way to PyPI."""
    root.mkdir(parents=True)
    run(["tar", "-xf", str(make(suite, cache)), "-C", str(root), "--numeric-owner"], timeout_s=300)
    share_network(root)


def share_network(root: Path) -> None:
    """Give the system `root` this machine's resolver, certificates and way to PyPI."""
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    shutil.copy("/etc/hosts", root / "etc/hosts")
    if _CERTIFICATES.is_file():
        shutil.copy(_CERTIFICATES, root / str(_CERTIFICATES).lstrip("/"))
    (root / "etc/pip.conf").write_text(_pip_configuration())


def _pip_configuration() -> str:
    environment = {name: os.environ[name] for name in os.environ if name.startswith("PIP_")}
    argv = [sys.executable, "-m", "pip", "config", "list"]
    lines = run(argv, timeout_s=60, extra_env=environment)
    settings = dict.fromkeys(_PIP_SETTINGS, "")
    for line in lines.decode().splitlines():
        name, _, value = line.partition("=")
        key = name.removeprefix("global.").removeprefix(":env:.")
        words = [word for word in value.strip("'").split() if "file:" not in word]
        if key in settings and words:
            settings[key] = " ".join(words)
    return "[global]\n" + "".join(f"{key} = {value}\n" for key, value in settings.items() if value)
