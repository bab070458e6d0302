# SPDX-License-Identifier: GPL-2.0-or-later
"""A real mock for builders, to compare with and for the plugin: of a checkout, as if packaged."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from mock_cloud.process import run
from tests.lab.layout import repository_root
from tests.real_koji.builders import UID

# What consolehelper does for mock: root, and who it was. kojid has started it as kojibuilder.
_AS_ROOT = r"""
#include <grp.h>
#include <stdlib.h>
#include <unistd.h>
int main(int count, char **words)
{
    (void)count;
    clearenv();
    setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin", 1);
    setenv("HOME", "/root", 1);
    setenv("LANG", "C.UTF-8", 1);
    setenv("SUDO_UID", "@UID", 1);
    setenv("SUDO_GID", "@UID", 1);
    setenv("SUDO_USER", "kojibuilder", 1);
    if (setgroups(0, 0) || setgid(0) || setuid(0))
        return 1;
    return execv("@SCRIPT", words);
}
"""
LOCAL = """\
config_opts['isolation'] = 'simple'
config_opts['cache_topdir'] = '/var/lib/mock/cache'
config_opts['macros']['%_dbpath'] = '/var/lib/rpm'
"""
PLUGIN = """\
config_opts['plugin_conf']['remote_enable'] = True
config_opts['plugin_conf']['remote_opts'] = {{'session': '{session}'}}
"""


def find_missing() -> str | None:
    """Why there can be no real mock; None if there can."""
    named = os.environ.get("MOCK_CLOUD_TEST_MOCK")
    if not named or not Path(named).is_file():
        return "needs a checkout of mock: MOCK=…"
    return None if shutil.which("gcc") else "not installed: gcc"


def make(place: Path) -> Path:
    """The program for /usr/bin/mock; mock itself, and logging.ini, are in `place`."""
    script = Path(os.environ["MOCK_CLOUD_TEST_MOCK"])
    python = os.environ.get("MOCK_CLOUD_TEST_MOCK_PYTHON", "/usr/bin/python3")
    own = place / "mock.py"
    shutil.copytree(script.parent / "mockbuild", place / "mockbuild")
    text = script.read_text().partition("\n")[2]
    own.write_text(f"#!{python} -tt\n{text}")
    own.chmod(0o755)
    with (place / "mockbuild/constants.py").open("a") as constants:  # what a package's build says
        constants.write(
            f"\nSYSCONFDIR = '/etc'\nPYTHONDIR = {str(place)!r}\n"
            "PKGPYTHONDIR = PYTHONDIR + '/mockbuild'\nMOCKCONFDIR = '/etc/mock'\n"
        )
    shutil.copy(repository_root() / "mock-plugins/remote.py", place / "mockbuild/plugins")
    shutil.copy(script.parent.parent / "etc/mock/logging.ini", place)
    program = place / "mock"
    source = _AS_ROOT.replace("@UID", str(UID)).replace("@SCRIPT", str(own))
    run(["gcc", "-O1", "-x", "c", "-", "-o", str(program)], stdin=source.encode(), timeout_s=120)
    program.chmod(0o4755)
    return program
