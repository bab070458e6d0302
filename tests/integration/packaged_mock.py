# SPDX-License-Identifier: GPL-2.0-or-later
"""A real mock laid out as a distribution's package, in a mount namespace of each command's own.

/usr/bin/mock is a link to consolehelper, which starts /usr/libexec/mock/mock as root with next to
nothing of the user's environment; mockbuild is among the system's Python modules and the
configuration in /etc/mock. The machine's own /usr and /etc lie below, unchanged.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.integration import real_mock
from tests.integration.conftest import Ended
from tests.integration.real_mock import RealMock, end, user_words
from tests.lab.chroots import ConfigDirectory
from tests.lab.clouds.ec2 import Ec2Cloud

_PYTHON = "/usr/bin/python3"
_PAM = "auth sufficient pam_rootok.so\nauth sufficient pam_succeed_if.so user ingroup mock\n"
_CONSOLE = """\
USER=root
PROGRAM=/usr/libexec/mock/mock
SESSION=false
KEEP_ENV_VARS=COLUMNS,SSH_AUTH_SOCK,http_proxy,ftp_proxy,https_proxy,no_proxy,MOCK_TRACE_LOG
"""
# Without the setuid bit: who starts it has been given CAP_SETUID and CAP_SETGID.
_HELPER = """\
#!/usr/bin/python3 -I
# What usermode's consolehelper and userhelper do for a program of /etc/security/console.apps.
import grp, os, pwd, sys
name = os.path.basename(sys.argv[0])
with open("/etc/security/console.apps/" + name) as stream:
    told = dict(line.rstrip("\\n").split("=", 1) for line in stream)
caller = pwd.getpwuid(os.getuid())
if grp.getgrnam("mock").gr_gid not in os.getgroups():
    sys.exit("You are not authorized to run " + name)
kept = [*told["KEEP_ENV_VARS"].split(","), "LANG", "TERM"]
environ = {key: os.environ[key] for key in kept if key in os.environ}
target = pwd.getpwnam(told["USER"])
environ.update(
    HOME=target.pw_dir, USER=target.pw_name, LOGNAME=target.pw_name, SHELL=target.pw_shell,
    PATH="/usr/sbin:/usr/bin:/sbin:/bin:/root/bin", USERHELPER_UID=str(caller.pw_uid),
)
os.setgroups(os.getgrouplist(target.pw_name, target.pw_gid))
os.setresgid(target.pw_gid, target.pw_gid, target.pw_gid)
os.setresuid(target.pw_uid, target.pw_uid, target.pw_uid)
os.execve(told["PROGRAM"], [told["PROGRAM"], *sys.argv[1:]], environ)
"""
_MOUNTS = """\
set -e
for top in usr etc; do
    mount -t overlay overlay -o "lowerdir=/$top,upperdir=$0/$top,workdir=$0/work-$top" "/$top"
done
mount --bind "$0/home" "$1"
shift
exec "$@"
"""


@dataclass(frozen=True)
class PackagedMock:
    """The layout in `place`, and the unprivileged member of the group mock who uses it."""

    bare: RealMock
    place: Path
    user: pwd.struct_passwd

    @property
    def etc(self) -> Path:
        """/etc/mock in the namespace."""
        return self.place / "etc/mock"

    @property
    def home(self) -> Path:
        """The user's home in the namespace."""
        return self.place / "home"

    @property
    def plugins(self) -> Path:
        """mock's plugins in the namespace."""
        return self.place / str(_modules()).lstrip("/") / "mockbuild/plugins"

    def as_root(self, *argv: str | Path) -> Ended:
        """Run a command of root's in the layout."""
        return self._end(argv, {"PATH": os.environ["PATH"], "HOME": "/root"})

    def as_user(self, *argv: str | Path, env: Mapping[str, str] | None = None) -> Ended:
        """Run a command of the user's, whom consolehelper would let become root."""
        environ = {"PATH": "/usr/bin:/bin", "HOME": self.user.pw_dir, "LANG": "C.UTF-8"}
        return self._end([*user_words(self.user), *argv], {**environ, **(env or {})})

    def _end(self, argv: tuple[str | Path, ...] | list[str | Path], env: dict[str, str]) -> Ended:
        layout = ["sh", "-c", _MOUNTS, str(self.place), self.user.pw_dir]
        return end(["unshare", "--mount", *layout, *map(str, argv)], cwd=Path("/"), env=env)


def make(mock: RealMock) -> PackagedMock:
    """Lay `mock`, a copy in one directory, out as a package would. Its plugin is not installed."""
    packaged = PackagedMock(mock, mock.place / "layout", mock.user)
    for name in ("usr/bin", "usr/libexec/mock", "work-usr", "work-etc", "home", "etc/mock"):
        (packaged.place / name).mkdir(parents=True)
    os.chown(packaged.home, mock.user.pw_uid, mock.user.pw_gid)
    _write(packaged.place / "usr/bin/consolehelper", _HELPER, 0o755)
    (packaged.place / "usr/bin/mock").symlink_to("consolehelper")
    script = mock.script.read_text().partition("\n")[2]
    _write(packaged.place / "usr/libexec/mock/mock", f"#!{_PYTHON} -tt\n{script}", 0o755)
    _write(packaged.place / "etc/security/console.apps/mock", _CONSOLE, 0o644)
    _write(packaged.place / "etc/pam.d/mock", _PAM, 0o644)
    modules = packaged.plugins.parent
    shutil.copytree(mock.script.parent / "mockbuild", modules)
    (packaged.plugins / mock.plugin.name).unlink()
    with (modules / "constants.py").open("a") as stream:
        # What a package's build writes there.
        stream.write(f"SYSCONFDIR = '/etc'\nPYTHONDIR = {str(_modules())!r}\n")
        stream.write("PKGPYTHONDIR = PYTHONDIR + '/mockbuild'\nMOCKCONFDIR = '/etc/mock'\n")
    if not Path(mock.python).samefile(_PYTHON) or mock.python != _PYTHON:
        _write(modules.parent / "what-mock-imports.pth", _site_of(mock.python), 0o644)
    return packaged


@contextmanager
def made() -> Iterator[PackagedMock]:
    """A layout for a module's tests, where the user may go: pytest's directories are root's."""
    place = Path(tempfile.mkdtemp(prefix="mock-cloud-packaged-"))
    try:
        place.chmod(0o755)
        yield make(real_mock.make(place))
    finally:
        shutil.rmtree(place)


@contextmanager
def configured(mock: PackagedMock, cloud: Ec2Cloud) -> Iterator[ConfigDirectory]:
    """/etc/mock, with a remote `ec2` whose credentials only the user may read, and a warm node.

    The node starts here and not in a test: to the guard against leaks it was there before.
    """
    cloud.reset()
    place = mock.bare.place
    written = cloud.write_config(mock.etc)
    real_mock.configure(mock.bare, written.path)
    shutil.copy(cloud.manifest, place)  # the lab's own is for root's eyes
    remote = written.path / "remotes.d/ec2.toml"
    remote.write_text(remote.read_text().replace(str(cloud.manifest.parent), str(place)))
    os.chown(remote, mock.user.pw_uid, mock.user.pw_gid)
    start = (place / "bin/launcher", "-r", written.chroot(), "--remote", "ec2", "--init")
    mock.as_user(*start).expect()
    yield written
    mock.as_user(place / "bin/mock-cloud", "release", "--all").expect()
    cloud.reset()


def _write(path: Path, text: str, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def _modules() -> Path:
    """Where the system's Python has the modules of packages."""
    show = "import sys; print(*(p for p in sys.path if p.endswith('-packages')))"
    found = _output(_PYTHON, show).split()
    return Path(next(path for path in found if path.startswith("/usr/lib")))


def _site_of(python: str) -> str:
    return _output(python, "import sysconfig; print(sysconfig.get_path('purelib'))")


def _output(python: str, code: str) -> str:
    argv = [python, "-c", code]
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=600).stdout
