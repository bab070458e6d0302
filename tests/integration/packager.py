# SPDX-License-Identifier: GPL-2.0-or-later
"""A Fedora packager: a dist-git checkout, rpkg, a Koji hub to ask, and a system of their own.

rpkg is what fedpkg is made of. MOCK_CLOUD_TEST_RPKG names a Python that has it, or is "pypi": one
is made.
"""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xmlrpc.server import SimpleXMLRPCRequestHandler, SimpleXMLRPCServer

import pytest

from tests.integration.conftest import Ended
from tests.lab.layout import Lab, repository_root
from tests.peers import venvs

_TIMEOUT_S = 900.0  # of what hangs; how long it takes says how busy the machine is
_BRANCH = "rhel-9.0"  # rpkg alone knows no other names
TARGET = f"{_BRANCH}-candidate"

# As fedpkg's own command does it.
_RPKG = """\
#!{python}
import configparser, os, sys
import pyrpkg.cli
config = configparser.ConfigParser()
config.read({config!r})
client = pyrpkg.cli.cliClient(config, name="rpkg")
client.do_imports()
client.parse_cmdline()
client.args.path = client.args.path or os.getcwd()
client.setupLogging(pyrpkg.log)
sys.exit(client.args.command())
"""

# Notes its words, then is what it stands for.
_COMMAND = """\
#!{python}
import json, sys
sys.path.insert(0, {root!r})
with open({calls!r}, "a") as stream:
    print(json.dumps(sys.argv[1:]), file=stream)
from {module} import main
sys.exit(main())
"""

_CONFIG = """\
[rpkg]
lookaside = http://127.0.0.1:1/
lookasidehash = sha512
lookaside_cgi = http://127.0.0.1:1/
gitbaseurl = ssh://127.0.0.1:1/%(repo)s
anongiturl = git://127.0.0.1:1/%(repo)s
branchre = rhel-
kojiprofile = koji
build_client = koji
"""

# A process with its own /etc: what it adds to the machine's is in `$0`/etc.
_OWN_ETC = """\
mount -t tmpfs tmpfs "$0/mnt" && mkdir "$0/mnt/work" && cp -a "$0/etc" "$0/mnt/upper" &&
mount -t overlay -o "lowerdir=/etc,upperdir=$0/mnt/upper,workdir=$0/mnt/work" overlay /etc &&
exec "$@"
"""


SPEC = """\
%bcond_with marble
%bcond_without wood
Name: toy-rpkg
Version: 1
Release: 1
Summary: A toy
License: CC0-1.0
BuildArch: noarch
Source0: toy.txt
%description
A package to test rpkg with.
%install
install -D -m 644 %{SOURCE0} %{buildroot}%{_datadir}/toy-rpkg/toy.txt
%files
%{_datadir}/toy-rpkg
%if %{with marble}
%package marble
Summary: Marble
%description marble
Marble.
%files marble
%endif
%if %{with wood}
%package wood
Summary: Wood
%description wood
Wood.
%files wood
%endif
"""

_PYPI = "pypi"
"""As the Python that has rpkg: one that is made."""
_RPKG_NEEDS = ("rpkg==1.70", "python-bugzilla", "openidc-client", "distro", "setuptools<80")

# What a packager's machine has for every chroot, Koji's included.
DEFAULTS = """
config_opts['use_bootstrap'] = False
config_opts['macros']['%_dbpath'] = '/var/lib/rpm'
"""


def find_python(lab: Lab) -> str:
    """A Python that can import rpkg; skips the test if there is none."""
    named = os.environ.get("MOCK_CLOUD_TEST_RPKG", "")
    if not named:
        pytest.skip("no rpkg: make test-peers has it, or set MOCK_CLOUD_TEST_RPKG to a Python's")
    return str(venvs.make(lab, "rpkg", *_RPKG_NEEDS) / "bin/python") if named == _PYPI else named


class Hub:
    """The three questions that rpkg asks a Koji hub for a build target's mock configuration."""

    def __init__(self, topurl: str) -> None:
        self.topurl = topurl
        self.asked: list[str] = []
        self._server = SimpleXMLRPCServer(
            ("127.0.0.1", 0), _AnyPath, logRequests=False, allow_none=True
        )
        for name in ("getBuildTarget", "getRepo", "getBuildConfig"):
            self._server.register_function(getattr(self, "_" + name), name)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/kojihub"

    def _getBuildTarget(self, target: str) -> dict[str, Any]:  # noqa: N802
        self.asked.append(target)
        return {"name": target, "build_tag_name": "lab-build"}

    def _getRepo(self, tag: str) -> dict[str, Any]:  # noqa: N802
        return {"id": 7}

    def _getBuildConfig(self, tag: str) -> dict[str, Any]:  # noqa: N802
        return {"name": tag, "extra": {"mock.package_manager": "dnf4"}}

    @contextmanager
    def running(self) -> Iterator[Hub]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()


class _AnyPath(SimpleXMLRPCRequestHandler):
    rpc_paths = ()


@dataclass(frozen=True, slots=True)
class Ran(Ended):
    """rpkg at its end, and the words of each `mock` that it called."""

    calls: tuple[list[str], ...]

    def expect(self, code: int = 0) -> Ran:
        super(Ran, self).expect(code)
        return self


@dataclass(frozen=True)
class Packager:
    """Somebody in a checkout of the package `name`; `run` is `rpkg` with words.

    `etc` is laid over this machine's /etc for all that they run. `become` is a command that
    another command's words follow: it runs as the packager. `behind` is where a real mock is.
    """

    place: Path
    python: str
    name: str
    become: tuple[str, ...] = ()
    behind: str = "/nonexistent"

    @property
    def etc(self) -> Path:
        return self.place / "etc"

    @property
    def home(self) -> Path:
        return self.place / "home"

    @property
    def checkout(self) -> Path:
        return self.place / self.name

    @property
    def results(self) -> Path:
        """Where rpkg tells mock to put results."""
        return self.checkout / f"results_{self.name}/1/1"

    @property
    def temporary(self) -> Path:
        return self.place / "tmp"

    def environment(self, env: Mapping[str, str]) -> dict[str, str]:
        return {
            "PATH": f"{self.place / 'bin'}:{self.behind}:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "TMPDIR": str(self.temporary),
            **env,
        }

    def command(self, name: str, module: str, python: str = sys.executable) -> None:
        """Install `name`, as pip would, so that what it is called with is known."""
        calls = self.place / f"{name}.calls"
        calls.touch()
        calls.chmod(0o666)
        path = self.place / "bin" / name
        root = str(repository_root())
        path.write_text(_COMMAND.format(python=python, root=root, calls=str(calls), module=module))
        path.chmod(0o755)

    @contextmanager
    def edited(self, path: Path, text: str) -> Iterator[None]:
        """Within the block `text` stands at the end of the file `path`."""
        kept = path.read_text() if path.exists() else None
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text((kept or "") + text)
        try:
            yield
        finally:
            path.write_text(kept) if kept is not None else path.unlink()

    def run(self, *words: str | Path, stdin: bytes = b"", **env: str) -> Ran:
        """Run rpkg in the checkout to its end."""
        calls = self.place / "mock.calls"
        calls.write_text("")
        ended = self.start(
            [self.python, str(self.place / "rpkg"), *map(str, words)], stdin=stdin, env=env
        )
        called = tuple(json.loads(line) for line in calls.read_text().splitlines())
        return Ran(ended.argv, ended.code, ended.stdout, ended.stderr, called)

    def start(
        self, argv: list[str], stdin: bytes = b"", env: Mapping[str, str] | None = None
    ) -> Ended:
        """Run any command where rpkg runs."""
        argv = ["unshare", "--mount", "sh", "-c", _OWN_ETC, str(self.place), *self.become, *argv]
        done = subprocess.run(
            argv,
            input=stdin,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
            cwd=self.checkout,
            env=self.environment(env or {}),
        )
        texts = (stream.decode(errors="surrogateescape") for stream in (done.stdout, done.stderr))
        return Ended(tuple(argv), done.returncode, *texts)


def settle(packager: Packager, spec: str, hub: Hub, user: pwd.struct_passwd | None = None) -> None:
    """Make the checkout with `spec`, the home directory, and what rpkg and Koji read."""
    for name in ("etc", "home", "tmp", "bin", "mnt"):
        (packager.place / name).mkdir()
    (packager.etc / "passwd").write_text(accounts(user or pwd.getpwuid(0), packager.home))
    (packager.place / "rpkg").write_text(
        _RPKG.format(python=packager.python, config=str(packager.place / "rpkg.conf"))
    )
    (packager.place / "rpkg.conf").write_text(_CONFIG)
    koji = packager.home / ".koji/config"
    koji.parent.mkdir()
    koji.write_text(f"[koji]\nserver = {hub.url}\ntopurl = {hub.topurl}\n")
    packager.checkout.mkdir()
    (packager.checkout / f"{packager.name}.spec").write_text(spec)
    (packager.checkout / "sources").touch()
    (packager.checkout / "extra").mkdir()  # rpkg gives the whole checkout to --sources
    who = ("-c", "user.name=packager", "-c", "user.email=packager@lab.invalid")
    for words in (
        ("init", "-q", "-b", _BRANCH),
        ("add", "."),
        ("commit", "-q", "-m", "Import"),
        ("remote", "add", "origin", f"ssh://127.0.0.1:1/{packager.name}"),
        ("config", f"branch.{_BRANCH}.remote", "origin"),
        ("config", f"branch.{_BRANCH}.merge", f"refs/heads/{_BRANCH}"),
    ):
        subprocess.run(["git", *who, *words], cwd=packager.checkout, check=True, timeout=600)


def give(packager: Packager, user: pwd.struct_passwd) -> None:
    """Make what is the packager's own the user's."""
    for top in (packager.home, packager.checkout, packager.temporary):
        for path in (top, *top.rglob("*")):
            os.chown(path, user.pw_uid, user.pw_gid)


def accounts(user: pwd.struct_passwd, home: Path) -> str:
    """This machine's accounts, with `home` as the user's home: mock looks it up there."""
    lines = Path("/etc/passwd").read_text().splitlines(keepends=True)
    others = (line for line in lines if not line.startswith(f"{user.pw_name}:"))
    own = f"{user.pw_name}:x:{user.pw_uid}:{user.pw_gid}::{home}:/bin/sh\n"
    return "".join((own, *others))
