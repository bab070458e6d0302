# SPDX-License-Identifier: GPL-2.0-or-later
"""Koji's hub with its database, and kojira: processes that end with the test run."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from mock_cloud.process import run
from tests.lab import leaks
from tests.lab.layout import LabError
from tests.lab.tls import Authority
from tests.real_koji import programs

_START_TIMEOUT_S = 300.0
_DIRECTORIES = ("packages", "repos", "repos-dist", "scratch", "work")
_CONF = """\
[hub]
DBConnectionString = dbname=koji user=koji host={sockets}
KojiDir = {top}
KojiWebURL = {url}/koji
LoginCreatesUser = Off
DisableNotifications = True
# Wrappers of images, too, are for hubs that know Maven.
EnableMaven = True
KojiTraceback = normal
# How often the scheduler assigns tasks; in the 60 seconds that are usual a test would drown.
RunInterval = 1
PluginPath = {plugins}
Plugins = sidetag_hub runroot_hub

[policy]
build_rpm =
    all :: allow
build_from_srpm =
    all :: allow
build_from_scm =
    all :: allow
build_from_repo_id =
    all :: allow
sidetag =
    all :: allow
channel =
    has req_channel :: req
    is_child_task :: parent
    all :: use default
"""
_WSGI = """\
from kojihub.kojixmlrpc import application as hub


def application(environ, start_response):
    peer = getattr(environ.get("gunicorn.socket"), "getpeercert", dict)()
    if peer:  # what Apache's mod_ssl says of a client's certificate
        environ["SSL_CLIENT_VERIFY"] = "SUCCESS"
        environ["SSL_CLIENT_S_DN_CN"] = dict(pair for (pair,) in peer["subject"])["commonName"]
    environ["koji.hub.ConfigFile"] = "{conf}/hub.conf"
    environ["koji.hub.ConfigDir"] = "{conf}/hub.conf.d"
    return hub(environ, start_response)
"""
# The first administrator: until there is one nobody may log in to make one.
_ADMIN = """\
insert into users (name, password, status, usertype) values ('admin', 'admin', 0, 0);
insert into user_perms (user_id, perm_id, creator_id) select u.id, p.id, u.id
    from users u, permissions p where u.name = 'admin' and p.name = 'admin';
"""


class Service:
    """A process of another user's that dies with the main thread, its output in `log`."""

    def __init__(
        self,
        argv: list[str],
        log: Path,
        *,
        user: str = "root",
        end: signal.Signals = signal.SIGTERM,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        who = ["--reuid", user, "--regid", user, "--init-groups"] if user != "root" else []
        self._end = end
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                ["setpriv", *who, "--pdeathsig", end.name.removeprefix("SIG"), *argv],
                cwd="/",
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8",
                     "PYTHONDONTWRITEBYTECODE": "1", **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )  # fmt: skip
        self.log = log

    @property
    def pid(self) -> int:
        return self._process.pid

    def runs(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> None:
        if self.runs():
            self._process.send_signal(self._end)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()


class Hub:
    """Below `place`: database, KojiDir (`top`), logs. Everything is made anew by `start`."""

    def __init__(self, place: Path, python: Path) -> None:
        self.place = place
        self.top = place / "top"
        self.python = python
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._services: dict[str, Service] = {}

    def start(self) -> None:
        """LabError says what did not come up."""
        for name in _DIRECTORIES:
            (self.top / name).mkdir(parents=True)
        for name in ("conf", "log", "pg"):
            (self.place / name).mkdir()
        run(["chown", "-R", programs.HUB_USER, str(self.top)], timeout_s=60)
        self._start_database()
        conf, sockets = self.place / "conf", self.place / "pg"
        plugins = programs.checkout() / "plugins/hub"
        (conf / "hub.conf").write_text(
            _CONF.format(sockets=sockets, top=self.top, url=self.url, plugins=plugins)
        )
        (conf / "koji_hub.py").write_text(_WSGI.format(conf=conf))
        self.start_hub()

    def start_hub(self) -> None:
        """Again, too: a test may stop it."""
        self._serve("hub", self.port, "-w", "3")
        leaks.lasting.add(self._services["hub"].pid)

    def start_tls(self, authority: Authority) -> str:
        """The same hub for who logs in by a certificate; its URL."""
        port, issued = _free_port(), authority.issue("127.0.0.1")
        for path in (issued.key, issued.certificate):
            os.chown(path, *_ids(programs.HUB_USER))
        words = ["--certfile", issued.certificate, "--keyfile", issued.key]
        words += ["--ca-certs", authority.path, "--cert-reqs", str(int(ssl.CERT_REQUIRED))]
        self._serve("hub-tls", port, "-w", "2", *map(str, words))
        return f"https://127.0.0.1:{port}"

    def _serve(self, name: str, port: int, *words: str) -> None:
        argv = [str(self.python / "bin/gunicorn"), "--no-control-socket", "-t", "600", *words]
        argv += ["-b", f"127.0.0.1:{port}", "--worker-tmp-dir", "/dev/shm", "koji_hub:application"]
        paths = f"{programs.checkout()}:{self.place / 'conf'}"
        self._start(name, argv, user=programs.HUB_USER, environment={"PYTHONPATH": paths})
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 5).close()
            except OSError:
                self._check(name, deadline_s)
            else:
                return

    def stop_hub(self) -> None:
        """Nobody answers at its port until `start_hub`."""
        hub = self._services.pop("hub")
        hub.stop()
        leaks.lasting.discard(hub.pid)

    def stop_tls(self) -> None:
        self._services.pop("hub-tls").stop()

    def start_kojira(self) -> None:
        conf = self.place / "conf/kojira.conf"
        conf.write_text(
            f"[kojira]\nserver = {self.url}\ntopdir = {self.top}\nuser = kojira\n"
            f"password = kojira\nlogfile = {self.place}/log/kojira\nsleeptime = 2\n"
            "ignore_stray_repos = yes\n"
        )
        (self.place / "log/kojira").touch()
        koji = programs.checkout()
        argv = [str(self.python / "bin/python"), str(koji / "util/kojira"),
                "-c", str(conf), "-f", "--force-lock"]  # fmt: skip
        self._start("kojira", argv, environment={"PYTHONPATH": str(koji)})

    def sql(self, text: str, *, database: str = "koji", role: str = "koji") -> str:
        words = ["-h", str(self.place / "pg"), "-U", role, "-v", "ON_ERROR_STOP=1", "-qtA"]
        argv = [str(_programs() / "psql"), *words, "-f", "-", database]
        return run(argv, stdin=text.encode(), timeout_s=300).decode()

    def stop(self) -> None:
        for name in reversed(list(self._services)):
            self._services.pop(name).stop()

    def _start_database(self) -> None:
        data, sockets = self.place / "data", self.place / "pg"
        data.mkdir(mode=0o700)
        for path in (data, sockets):
            os.chown(path, *_ids(programs.DATABASE_USER))
        user = programs.DATABASE_USER
        initdb = [str(_programs() / "initdb"), "-D", str(data), "-A", "trust", "--no-sync",
                  "-E", "UTF8", "--locale=C.UTF-8"]  # fmt: skip
        run(["setpriv", "--reuid", user, "--regid", user, "--init-groups", *initdb],
            timeout_s=300, cwd=Path("/"))  # fmt: skip
        settings = {"listen_addresses": "", "unix_socket_directories": sockets, "fsync": "off"}
        words = [word for key, text in settings.items() for word in ("-c", f"{key}={text}")]
        self._start("postgres", [str(_programs() / "postgres"), "-D", str(data), *words],
                    user=user, end=signal.SIGINT)  # fmt: skip
        leaks.lasting.add(self._services["postgres"].pid)  # it starts a process for each client
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        ready = [str(_programs() / "pg_isready"), "-q", "-h", str(sockets)]
        while subprocess.run(ready, check=False).returncode:
            self._check("postgres", deadline_s)
        self.sql("create role koji login;", database="postgres", role=user)
        own = [str(_programs() / "createdb"), "-h", str(sockets), "-U", user, "-O", "koji", "koji"]
        run(own, timeout_s=300)
        self.sql((programs.checkout() / "schemas/schema.sql").read_text())
        self.sql(_ADMIN)

    def _start(self, name: str, argv: list[str], **more: object) -> None:
        self._services[name] = Service(argv, self.place / f"log/{name}", **more)  # type: ignore[arg-type]

    def _check(self, name: str, deadline_s: float) -> None:
        if not self._services[name].runs() or time.monotonic() > deadline_s:
            text = self._services[name].log.read_text(errors="replace")
            raise LabError(f"Koji's {name} did not come up: {text[-2000:]}")
        time.sleep(0.1)


def _programs() -> Path:
    found = programs.postgres()
    assert found is not None  # find_missing
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _ids(user: str) -> tuple[int, int]:
    entry = pwd.getpwnam(user)
    return entry.pw_uid, entry.pw_gid
