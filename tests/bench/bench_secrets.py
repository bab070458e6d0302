# SPDX-License-Identifier: GPL-2.0-or-later
"""A chroot from a repository with client certificates, beside one that the node fetches itself.

python -m tests.bench.bench_secrets [--rounds N] [--build]

`--init` on one node whose chroots and layers are removed before each, so that all packages come
anew. "direct": the node asks a plain server on its own. "first": this machine asks with its
certificate and keeps what it gets. "warm": it has kept all. Needs root.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.lab import chroots, dist, manifest, node, srpm
from tests.lab.http import FileServer
from tests.lab.layout import Lab, default_lab, locked
from tests.lab.tls import Authority

_CLOUD = "import sys; from mock_cloud.cli import main; raise SystemExit(main(sys.argv[1:]))"
_WAYS = ("direct", "first", "warm")


def _configure(lab: Lab, place: Path, authority: Authority, url: str, secure: str) -> str:
    """A chroot that is installed from `secure`, beside the lab's own from `url`; its name."""
    config = chroots.write(lab, place / "etc", repository_url=f"{url}/dist")
    client = authority.issue("client")
    template = config.path / "templates/lab.tpl"
    lines = [
        f"baseurl={secure}/dist/{{{{ releasever }}}}\nsslcacert={authority.path}\n"
        f"sslclientcert={client.certificate}\nsslclientkey={client.key}"
        if line.startswith("baseurl=")
        else line
        for line in template.read_text().splitlines()
    ]
    (config.path / "templates/secure.tpl").write_text("\n".join(lines) + "\n")
    chroot = config.chroot_file().read_text()
    chroot = chroot.replace("lab.tpl", "secure.tpl").replace("'lab-{{", "'secure-{{")
    (config.path / "secure.cfg").write_text(chroot)
    return config.chroot()


def run(lab: Lab, rounds: int, *, builds: bool) -> None:
    """Print seconds and bytes for each way."""
    with locked(lab):
        for make in (dist.build, node.build, manifest.build):
            make(lab)
        package = srpm.build(lab, srpm.plain())
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        (place / "firm").mkdir()
        authority = Authority(place / "firm")
        context = authority.server("127.0.0.1", clients=True)
        with (
            FileServer({"/dist": lab.dist}) as plain,
            FileServer({"/dist": lab.dist}, context=context) as secure,
        ):
            own = _configure(lab, place, authority, plain.url, secure.url)
            cache = place / "cache"
            env = {**os.environ, "XDG_STATE_HOME": scratch, "XDG_CACHE_HOME": str(cache)}
            mock = [sys.executable, "-m", "mock_cloud.launcher", "--configdir", str(place / "etc"),
                    "--remote", "local", "-q", "--resultdir", str(place / "results")]  # fmt: skip
            work = [str(package)] if builds else ["--init"]
            took: dict[str, list[float]] = {way: [] for way in _WAYS}
            asked: dict[str, int] = {}
            try:
                for number in range(rounds + 1):
                    for way in _WAYS:
                        chroot = ["-r", own if way == "direct" else "secure"]
                        subprocess.run([*mock, *chroot, "--scrub=all"], env=env, check=True)
                        if way == "first":
                            shutil.rmtree(cache / "mock-cloud/repositories", ignore_errors=True)
                        for server in (plain, secure):
                            server.forget_accesses()
                        began_s = time.monotonic()
                        subprocess.run([*mock, *chroot, *work], env=env, check=True)
                        wall_s = time.monotonic() - began_s
                        seen = (*plain.accesses(), *secure.accesses())
                        asked[way] = sum(one.sent_bytes for one in seen)
                        if number:  # the first warms this machine's own caches up
                            took[way].append(wall_s)
            finally:
                words = [sys.executable, "-c", _CLOUD, "release", "--all", "--force"]
                subprocess.run([*words, "--configdir", str(place / "etc")], env=env, check=True)
    print(f"{'a build' if builds else '--init'}, {rounds} rounds, load {os.getloadavg()[0]:.1f}")
    base = statistics.median(took["direct"])
    for way, values in took.items():
        median = statistics.median(values)
        print(f"  {way:7} median {median:6.2f}   min {min(values):6.2f}   max {max(values):6.2f}"
              f"   {median / base:4.2f}×   {asked[way] / 1e6:7.2f} MB from the server")  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--build", action="store_true")
    chosen = parser.parse_args(arguments)
    run(default_lab(), chosen.rounds, builds=chosen.build)
    return 0


if __name__ == "__main__":
    sys.exit(main())
