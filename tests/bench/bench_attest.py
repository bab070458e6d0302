# SPDX-License-Identifier: GPL-2.0-or-later
"""Attesting a node of 30,000 files and more, verdict included, against openssl over its files.

The node's image is the lab's with one more signed package of real files of this machine. What is
timed is `mock-cloud attest` on a warm node, from its start to its exit, and the evidence alone, as
the verdict says; everything uses all cores, one after the other, with the page cache warm.

python -m tests.bench.bench_attest [--files N] [--rounds N]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from mock_cloud.attest.envelope import Signer
from mock_cloud.images.tree_manifest import make_signed_manifest
from tests.bench.bench_measure import CORES, hash_rate_bytes_s, openssl
from tests.lab import chroots, dist, keys, manifest, node
from tests.lab.layout import Lab, default_lab, locked

_SOURCES = (Path("/usr/share"), Path("/usr/lib/python3"), Path("/usr/include"), Path("/usr/lib"))
# Debian's rpm wants to be told that it is meant.
_FORCE = ("--force-debian",) if Path("/etc/debian_version").exists() else ()
_SPEC = """\
Name: bulk
Version: 1
Release: 1
Summary: Many files
License: Public Domain
BuildArch: noarch
AutoReqProv: no
%global _binary_payload w.ufdio
%global __os_install_post %{nil}
%global _build_id_links none
%description
Many files.
%install
mkdir -p %{buildroot}/opt
cp -rl --no-preserve=ownership @TREE@ %{buildroot}/opt/bulk
%files
%defattr(-,root,root)
/opt/bulk
"""


def _plain_files(limit: int) -> Iterator[Path]:
    """Regular files of this machine, at most 4 MiB each; one a name."""
    count = 0
    for top in _SOURCES:
        for where, directories, names in os.walk(top):
            directories.sort()
            for name in sorted(names):
                path = Path(where, name)
                if not path.is_symlink() and path.is_file() and path.stat().st_size <= 4 << 20:
                    yield path
                    count += 1
                    if count >= limit:
                        return


def _package(lab: Lab, scratch: Path, count: int) -> Path:
    tree = scratch / "tree"
    for number, path in enumerate(_plain_files(count)):
        place = tree / f"{number // 500:03d}"
        place.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place / f"{number:06d}")
    spec = scratch / "bulk.spec"
    spec.write_text(_SPEC.replace("@TREE@", str(tree)))
    command = ["rpmbuild", "--quiet", "-bb", "-D", f"_topdir {scratch}", str(spec)]
    subprocess.run(command, check=True, env={**os.environ, "HOME": str(scratch)})
    package = next(scratch.glob("RPMS/noarch/*.rpm"))
    keys.sign(lab, [package])
    return package


def _image(lab: Lab, scratch: Path, count: int) -> Path:
    tree = scratch / "image"
    subprocess.run(["cp", "-a", str(lab.tree), str(tree)], check=True)
    package = _package(lab, scratch, count)
    command = ["rpm", "--root", str(tree), "--dbpath", "/var/lib/rpm", "-i", "--nodeps", *_FORCE]
    subprocess.run([*command, "--nosignature", str(package)], check=True)
    for leftover in ("rpmdb.sqlite-wal", "rpmdb.sqlite-shm"):
        (tree / "var/lib/rpm" / leftover).unlink(missing_ok=True)
    return tree


def run(lab: Lab, count: int, rounds: int) -> None:
    """Print the figures of `rounds` attestations of one warm node."""
    with locked(lab):
        for make in (dist.build, node.build, manifest.build):
            make(lab)
    with tempfile.TemporaryDirectory(prefix="bench-attest-", dir=lab.root) as directory:
        scratch = Path(directory)
        image = _image(lab, scratch, count)
        signed = scratch / "image.manifest"
        armoured = [lab.package_key.read_bytes()]
        signer = Signer.from_private(manifest.signing_key(lab))
        made = make_signed_manifest(
            image, armoured, signer, name="bulk", validity=manifest.validity
        )
        signed.write_bytes(made[1])
        config = chroots.write(lab, scratch / "mock", repository_url="http://127.0.0.1:1/dist")
        text = config.remote_file.read_text()
        text = text.replace(str(lab.tree), str(image)).replace(str(lab.manifest), str(signed))
        config.remote_file.write_text(text)
        _compare(scratch, config.path, image, rounds)


def _compare(scratch: Path, configdir: Path, image: Path, rounds: int) -> None:
    env = {**os.environ, "XDG_STATE_HOME": str(scratch / "state")}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    tool = (sys.executable, "-c", "from mock_cloud.cli import main; raise SystemExit(main())")
    command = (*tool, "attest", "local", "--json", "--configdir", str(configdir))
    verdicts, walls, rivals = [], [], []
    try:
        subprocess.run(command, check=True, env=env, stdout=subprocess.DEVNULL)
        for _ in range(rounds):
            began_s = time.monotonic()
            done = subprocess.run(command, check=True, env=env, stdout=subprocess.PIPE)
            walls.append(time.monotonic() - began_s)
            verdicts.append(json.loads(done.stdout))
            began_s = time.monotonic()
            openssl(str(image))
            rivals.append(time.monotonic() - began_s)
    finally:
        subprocess.run([*tool, "release", "--all"], check=True, env=env)
    files = [path for path in image.rglob("*") if path.is_file() and not path.is_symlink()]
    size = sum(path.stat().st_size for path in files)
    limit_s = size / hash_rate_bytes_s()
    measured = statistics.median(one["timings_s"]["measure"] for one in verdicts)
    whole, rival = statistics.median(walls), statistics.median(rivals)
    print(f"a node of {verdicts[-1]['counts']['files']:,} entries ({len(files):,} regular files,")
    print(f"{size / 1e9:.2f} GB), {CORES} cores, median of {rounds} rounds, seconds")
    print(f"  limit (bytes / sha256 of all cores)   {limit_s:6.2f}")
    print(f"  openssl dgst, all cores               {rival:6.2f}")
    print(f"  evidence, over SSH                    {measured:6.2f}")
    print(f"  the whole command, verdict included   {whole:6.2f}")
    for what, seconds in (("evidence", measured), ("whole command", whole)):
        print(
            f"  {what:14} {rival / seconds:5.2f} times as fast as openssl,"
            f" {limit_s / seconds:4.0%} of the limit"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=30_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    run(default_lab(), options.files, options.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
