# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads a script of mock's integration tests, and makes of it what can be run on a side.

The scripts stay in their checkout. What they download is served by the lab under the same names.
Where the chroot is on a node, what looks into its directory becomes a `mock --chroot`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.peers.sides import ROOT, Side

EXTENSION = "suite"

# [ ! -e $CHROOT/usr/bin/ccache ], but not $CHROOT itself, which --clean removes.
_LOOK = re.compile(r"\[ (! )?(-[ef]) \$CHROOT(/\S+) \]")
_LIST = re.compile(r"sudo ls -l \$CHROOT(/\S+)")
_WRITE = re.compile(r'>> "\$CHROOT(\$tmpdir/\w+)"')
_DOWNLOADS = re.compile(
    r"https://(?:github\.com/[\w-]+/[\w-]+/raw|raw\.githubusercontent\.com/[\w-]+/[\w-]+)/(?:raw/)?main"
)
_ISOLATIONS = re.compile(r"for isolation in (?:simple nspawn|nspawn simple);")

_BOOTSTRAPS = re.compile(r"for bootstrap in (?=.*?(-*no-bootstrap-chroot))[\w -]+;")

_SLEEPS = re.compile(r"\bsleep 10\b(?=\s*(?:#.*)?$)", re.MULTILINE)

# Ten seconds are enough on a quiet machine: until the daemon runs, or what starts it has ended.
_WAITS = """\
waits() {
    for turn in $(seq 1200); do
        pgrep daemontest > /dev/null && return
        test -d /proc/$! || return
        sleep 0.5
    done
}
"""
_LOOKS = """\
looks() { $MOCKCMD_NO_RESULTDIR --quiet --offline --disable-plugin=tmpfs --chroot -- test "$@"; }
puts() {
    put=$(mktemp -d) && cat > "$put/${1##*/}" &&
    $MOCKCMD --offline --disable-plugin=tmpfs --copyin "$put/${1##*/}" "${1%/*}" && rm -r "$put"
}
"""


def read(script: Path, shop: str, *, nspawn: bool, bootstrap: bool, remote: bool) -> str:
    """The script's text. `shop` is the URL of the packages that it downloads.

    `nspawn`: whether there is systemd-nspawn; `bootstrap`: whether the side has bootstrap chroots;
    `remote`: whether the chroot is on a node.
    """
    text = _WAITS + _SLEEPS.sub("waits", _DOWNLOADS.sub(shop, script.read_text()))
    if not nspawn:
        text = _ISOLATIONS.sub("for isolation in simple;", text)
    if not bootstrap:
        text = _BOOTSTRAPS.sub(r"for bootstrap in \1;", text)
    if not remote:
        return text
    text = _LOOK.sub(r"\1looks \2 \3", text)
    text = _LIST.sub(r"looks -e \1", text)
    return _LOOKS + _WRITE.sub(r'| puts "\1"', text)


def command(text: str) -> list[str]:
    """The words that run a script's text. Fedora's sh is bash; it reaps what others leave behind.

    Processes that are dead and not reaped are found by the scripts' `pgrep`; the tests adopt them.
    """
    adopt = (
        "import ctypes, os, sys; ctypes.CDLL(None).prctl(36, 1); os.execvp('bash', sys.argv[1:])"
    )
    return ["python3", "-c", adopt, "bash", "-c", text]


def prepare(side: Side) -> None:
    """What the suite's own playbook installs on a machine that it is run on."""
    side.install("resolve-fedora-aliases", "#!/bin/sh\necho lab-1\n")
    side.install("sudo", _SUDO)
    side.install("python", '#!/bin/sh\nexec python3 "$@"\n')
    shutil.copy("/usr/bin/rpm", side.place / "rpm")
    # It asks whether nosync is installed for two architectures; mock does without.
    side.install("rpm", _RPM.format(rpm=side.place / "rpm"))
    (side.etc / "fedora-rawhide-x86_64.cfg").write_text(f"include('{ROOT}.cfg')\n")
    (side.place / "results").mkdir()
    (side.place / "results").chmod(0o777)
    keys = side.place / "gpg"
    keys.mkdir(mode=0o700)
    gpg = ["gpg", "--homedir", str(keys), "--batch", "--quiet"]
    parameters = "%no-protection\nKey-Type: RSA\nKey-Length: 2048\nName-Email: mock@lab.invalid\n"
    subprocess.run(
        [*gpg, "--generate-key"], input=parameters.encode(), check=True, capture_output=True
    )
    end_agent(side)
    subprocess.run(["chown", "-R", side.user.pw_name, str(keys)], check=True)
    side.install("gpg-mock", f'#!/bin/sh\nexec gpg --homedir {keys} "$@"\n')
    (side.home / ".rpmmacros").write_text("%__gpg /usr/bin/gpg-mock\n%_gpg_name mock@lab.invalid\n")


# Its caller is a user, who has mock's capabilities; what mock copied into a chroot may be root's.
_SUDO = """\
#!/usr/bin/python3
import os, sys
os.setgroups([0])
os.setresgid(0, 0, 0)
os.setresuid(0, 0, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""


def end_agent(side: Side) -> None:
    """End the agent that signing has started."""
    subprocess.run(["gpgconf", "--homedir", str(side.place / "gpg"), "--kill", "all"], check=True)


_RPM = """\
#!/bin/sh
test "$*" = "-qa nosync" && echo nosync.x86_64 && exec echo nosync.i686
exec {rpm} "$@"
"""


def environment(suite: Path, side: Side, source_package: str) -> Mapping[str, str]:
    """What the suite's own `testenvironment` sets, with the side's places."""
    results = side.place / "results"
    command = f"mock --verbose --uniqueext={EXTENSION} --configdir=/etc/mock -r {ROOT}"
    return {
        "TESTDIR": str(suite),
        "TOPDIR": str(suite.parent),
        "MOCKSRPM": source_package,
        "SIMPLESRPM": str(suite / "test-C-1.1-0.src.rpm"),
        "VERBOSE": "--verbose",
        "testConfig": ROOT,
        "uniqueext": EXTENSION,
        "outdir": str(results),
        "MOCKCMD_NO_RESULTDIR": command,
        "MOCKCMD": f"{command} --resultdir={results}",
        "MOCKCHAIN": f"mock --verbose --chain --configdir=/etc/mock -r {ROOT}",
        "CHROOT": str(side.lib / f"{side.root}-{EXTENSION}/root"),
    }
