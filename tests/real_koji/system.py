# SPDX-License-Identifier: GPL-2.0-or-later
"""A real Koji on this machine: hub, kojira, builders, and the lab's EC2 for their nodes."""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import tempfile
import time
import xmlrpc.client
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from mock_cloud.process import run
from tests.lab import seeds
from tests.lab.clouds import images
from tests.lab.clouds.ec2 import Ec2Cloud
from tests.lab.copies import change_a_byte
from tests.lab.http import FileServer
from tests.lab.layout import LabError, locked
from tests.lab.srpm import Recipe
from tests.lab.steps import step
from tests.real_koji import programs
from tests.real_koji.builders import Builder, Setup
from tests.real_koji.hub import Hub
from tests.waiting import wait_for

TAGS = ("lab",)
PACKAGES = ("hello", "toy-plain", "toy-native", "toy-scm", "toy-chain-a")
MAXJOBS = 4
VICTIM = "usr/bin/rpm"
_REMOTE = "/etc/mock/remotes.d/ec2.toml"
_TASK_TIMEOUT_S = 1200.0  # of what hangs; how long it takes says how busy the machine is
_CREATED = re.compile(r"Created task: (\d+)")
AnyBuilder = TypeVar("AnyBuilder", bound=Builder)
Calls = list[tuple[str, list[Any], dict[str, Any]]]
_LEASE = """
[lease]
idle_ttl = "30m"
max_nodes = {max_nodes}
max_ttl = "26h"
"""


class RealKoji:
    """Everything that runs. `api` is the hub without a login, which may read all that it has."""

    def __init__(self, hub: Hub, cloud: Ec2Cloud, files: FileServer, place: Path) -> None:
        self.hub = hub
        self.cloud = cloud
        self.files = files
        self.place = place
        self.builders: dict[str, Builder] = {}
        self.setup: Setup | None = None
        self.command = place / "koji"
        self.tampered = ""

    @property
    def api(self) -> Any:
        return xmlrpc.client.ServerProxy(self.hub.url, allow_none=True)

    def koji(self, *words: str | Path, user: str = "admin", code: int | None = 0) -> str:
        """What `koji` prints; LabError for another exit status than `code`."""
        done = subprocess.run(
            [str(self.command), *map(str, words)],
            env={**os.environ, "KOJI_USER": user}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
            timeout=_TASK_TIMEOUT_S,
        )  # fmt: skip
        if code is not None and done.returncode != code:
            raise LabError(f"koji {shlex.join(map(str, words))}: {done.returncode}\n{done.stdout}")
        return done.stdout

    def submit(self, *words: str | Path, user: str = "admin") -> int:
        """The number of the task that `koji WORDS --nowait` makes."""
        said = self.koji(*words, user=user)
        found = _CREATED.search(said)
        if found is None:
            raise LabError(f"koji {shlex.join(map(str, words))} made no task\n{said}")
        return int(found[1])

    def build(
        self, source: str | Path, *options: str, target: str = "lab", user: str = "admin"
    ) -> int:
        words = ("build", "--nowait", "--noprogress", *options, target, source)
        return self.submit(*words, user=user)

    def wait(self, *tasks: int) -> list[str]:
        """The states of tasks, once all of them have ended."""
        self.wait_for(
            lambda: all(map(self.has_ended, tasks)),
            lambda: f"tasks {tasks} have not ended: {self.tell(*tasks)}",
        )
        return [self.state(task) for task in tasks]

    def has_ended(self, task: int) -> bool:
        return self.state(task) not in ("FREE", "OPEN", "ASSIGNED")

    def state(self, task: int) -> str:
        names = ("FREE", "OPEN", "CLOSED", "CANCELED", "ASSIGNED", "FAILED")
        return names[self.api.getTaskInfo(task)["state"]]

    def wait_for(self, is_so: Callable[[], object], told: Callable[[], str]) -> None:
        deadline_s = time.monotonic() + _TASK_TIMEOUT_S
        while not is_so():
            if time.monotonic() > deadline_s:
                raise LabError(told())
            time.sleep(0.5)

    def child(self, task: int, method: str) -> dict[str, Any]:
        """The task's one descendant of a method. LabError if there is none."""
        found = [one for one in self.family(task) if one["method"] == method]
        if len(found) != 1:
            raise LabError(f"task {task} has {len(found)} of {method}")
        return found[0]

    def wait_for_child(self, task: int, method: str) -> None:
        """Until there is a descendant of this method, or the task has ended."""
        self.wait_for(
            lambda: self.has_ended(task) or any(x["method"] == method for x in self.family(task)),
            lambda: self.tell(task),
        )

    def family(self, task: int) -> list[dict[str, Any]]:
        found = []
        for one in self.api.getTaskChildren(task):
            found += [one, *self.family(one["id"])]
        return found

    def logs(self, task: int) -> dict[str, str]:
        """What a task, or its build, has at the hub by now: texts by names."""
        found = {}
        place = self.hub.top / f"work/tasks/{task % 10000}/{task}"
        parent = self.api.getTaskInfo(task)["parent"]
        moved = self.hub.top.glob(f"scratch/*/task_{parent}") if parent else iter(())
        builds = self.api.listBuilds({"__starstar": True, "taskID": parent or task})
        parts = ("package_name", "version", "release")
        built = [
            self.hub.top.joinpath("packages", *(one[part] for part in parts), "data/logs")
            for one in builds
        ]
        for base in (*moved, *built, place):
            for path in base.rglob("*.log") if base.is_dir() else ():
                found[path.name] = path.read_text(errors="replace")
        return found

    def wait_for_log(self, task: int, text: str) -> None:
        """Until the build.log of a build's one buildArch has `text`, at the hub."""
        self.wait_for_child(task, "buildArch")
        arch = self.child(task, "buildArch")["id"]
        self.wait_for(
            lambda: text in self.logs(arch).get("build.log", "") or self.has_ended(arch),
            lambda: self.tell(task),
        )

    def error(self, task: int) -> str:
        """What the task says of its failure."""
        try:
            return str(self.api.getTaskResult(task))
        except xmlrpc.client.Fault as fault:
            return fault.faultString

    def tell(self, *tasks: int) -> str:
        """What to look at where a task did not end as it should."""
        lines = []
        for task in tasks:
            for one in (self.api.getTaskInfo(task), *self.family(task)):
                lines.append(f"{one['id']} {one['method']} {self.state(one['id'])}")
                if self.state(one["id"]) == "FAILED":
                    lines.append(self.error(one["id"]))
                    lines += self.logs(one["id"]).get("root.log", "").splitlines()[-10:]
        return "\n".join(lines)

    def expect(self, *tasks: int) -> None:
        """LabError unless all of them end well."""
        if set(self.wait(*tasks)) != {"CLOSED"}:
            raise LabError(self.tell(*tasks))

    def nodes(self, name: str) -> list[dict[str, Any]]:
        """What `mock-cloud nodes --json` lists for kojibuilder at a builder."""
        done = self.builders[name].enter("mock-cloud", "nodes", "--json")
        if done.returncode:
            raise LabError(done.stderr)
        listed: list[dict[str, Any]] = json.loads(done.stdout)
        return listed

    def release(self) -> None:
        """Give back the nodes of all builders."""
        for builder in self.builders.values():
            builder.enter("mock-cloud", "release", "--all", "--force")

    def expect_no_node(self) -> None:
        """Give back the nodes of all builders, whose machines take a while to end."""
        self.release()
        wait_for(lambda: self.cloud.nodes() == ())

    def enable(self, *names: str) -> None:
        """Have the hub give tasks to these builders."""
        for name in names:
            if not self.api.getHost(name)["enabled"]:
                self.koji("enable-host", name)

    def only(self, name: str) -> None:
        """Have the hub give tasks to no other builder."""
        self.enable(name)
        for other in set(self.builders) - {name}:
            if self.api.getHost(other)["enabled"]:
                self.koji("disable-host", other)

    def make_repository(self, recipe: Recipe) -> str:
        """A git repository with the recipe's files, as an URL for `koji build`."""
        bare = self.hub.top / f"scm/{recipe.name}"
        with tempfile.TemporaryDirectory() as work:
            spec = recipe.spec.replace("%{?dist}", "")
            Path(work, f"{recipe.name}.spec").write_text(spec)
            for name, source in recipe.sources.items():
                data = source if isinstance(source, bytes) else source.read_bytes()
                Path(work, name).write_bytes(data)
            git = ("git", "-c", "user.name=Lab", "-c", "user.email=lab@lab.invalid", "-C", work)
            for words in (("init", "-q", "-b", "main"), ("add", "."), ("commit", "-qm", "All"),
                          ("clone", "-q", "--bare", work, str(bare))):  # fmt: skip
                run([*git, *words], timeout_s=300)
            # By HTTP without a server's program: koji has no file://.
            run(["git", "-C", str(bare), "update-server-info"], timeout_s=300)
        return f"{self.files.url.replace('http', 'git+http')}/scm/{recipe.name}#main"

    def tamper(self, name: str) -> None:
        """From now on a builder's nodes boot an image in which one byte of VICTIM was changed."""
        tree = self.place / "tampered"
        if not tree.exists():
            change_a_byte(images.build(self.cloud.lab).tree, tree, VICTIM)
            self.tampered = self.cloud.add_image(tree, "tampered")
        self.edit(name, f"s/{self.cloud.image_id}/{self.tampered}/")

    def mend(self, name: str) -> None:
        """Undo `tamper`."""
        self.edit(name, f"s/{self.tampered}/{self.cloud.image_id}/")

    def edit(self, name: str, script: str) -> None:
        """Change the file of a builder's remote by sed, as its administrator does."""
        done = self.builders[name].enter("sed", "-i", script, _REMOTE, user="root")
        if done.returncode:
            raise LabError(done.stderr)
        self.builders[name].enter("chown", "kojibuilder", _REMOTE, user="root")

    def launched(self) -> int:
        """How many instances the cloud was asked for so far."""
        return self.cloud.calls.count("RunInstances")

    def start_builder(self, name: str, kind: type[AnyBuilder] = Builder, **more: Any) -> AnyBuilder:  # type: ignore[assignment]
        given = {"setup": self.setup, **more}
        builder = kind(name, self.place / "hosts" / name, **given)
        self.builders[name] = builder
        builder.start()
        return builder

    def add_hosts(self, *names: str) -> None:
        """Tell the hub of builders, which do all kinds of tasks."""
        calls: Calls = [("addHost", [name, [platform.machine()]], {}) for name in names]
        # Wrappers are the channel maven's, whatever they wrap.
        calls += [
            ("addHostToChannel", [name, channel], {})
            for name in names
            for channel in ("createrepo", "maven")
        ]
        self.call(calls)
        self.set_passwords("kojid", names)

    def call(self, calls: Calls) -> None:
        """Make calls as the hub's administrator, in one go."""
        argv = [str(self.hub.python / "bin/python"), str(Path(__file__).with_name("calls.py"))]
        tree = {"PYTHONPATH": str(programs.checkout())}
        run(argv, stdin=json.dumps([self.hub.url, calls]).encode(), timeout_s=600, extra_env=tree)

    def set_passwords(self, password: str, names: Sequence[str]) -> None:
        listed = ", ".join(f"'{name}'" for name in names)
        self.hub.sql(f"update users set password = '{password}' where name in ({listed});")  # noqa: S608


@contextmanager
def run_koji(
    cloud: Ec2Cloud, *, builders: Sequence[str] = ("b1.lab", "b2.lab"), max_nodes: int = 4
) -> Iterator[RealKoji]:
    """Hub, kojira and builders until the block ends. LabError says what did not come up."""
    place = programs.state_directory() / "run"
    with ExitStack() as stack:
        stack.enter_context(locked(replace(cloud.lab, root=programs.state_directory())))
        python, product = programs.make_hub_python(), programs.make_product()
        if place.exists():
            shutil.rmtree(place)
        place.mkdir(parents=True)
        hub = Hub(place, python)
        stack.callback(hub.stop)
        with step("Koji's database and hub"):
            hub.start()
        host = cloud.site.network.host_address
        files = stack.enter_context(FileServer({"": hub.top, "/dist": cloud.lab.dist}, host=host))
        koji = RealKoji(hub, cloud, files, place)
        _write_command(koji)
        koji.setup = Setup(
            hub.url, files.url, hub.top, python, _write_etc_mock(cloud, place, max_nodes),
            product / "bin/mock", str(product / "bin"),
        )  # fmt: skip
        with step("tags, groups, users and builders, told to the hub"):
            _seed(koji, builders)
            hub.start_kojira()
            for name in builders:
                stack.callback(koji.start_builder(name, maxjobs=MAXJOBS).stop)
        stack.callback(koji.release)
        with step("a repository for the builds' chroots"):
            koji.koji("regen-repo", "--wait", "lab-build")
        yield koji


def _seed(koji: RealKoji, builders: Sequence[str]) -> None:
    """Tell a new hub its tags, groups, users and builders."""
    calls: Calls = [("createExternalRepo", ["lab", f"{koji.files.url}/dist/1/"], {})]
    for tag in TAGS:
        calls += build_target(tag)
        calls += [("packageListAdd", [tag, name, "admin"], {}) for name in PACKAGES]
    calls += [("createUser", ["kojira"], {}), ("grantPermission", ["kojira", "repo"], {})]
    koji.call(calls)
    koji.set_passwords("kojira", ["kojira"])
    koji.add_hosts(*builders)


def build_target(tag: str, external: str = "lab") -> Calls:
    """Calls that make a tag, one to build in for it, and a target of its name."""
    build, arch = f"{tag}-build", platform.machine()
    extra = {"mock.use_bootstrap": False, "mock.package_manager": "dnf4"}
    calls: Calls = [
        ("createTag", [tag], {}),
        ("createTag", [build], {"parent": tag, "arches": arch, "extra": extra}),
        ("createBuildTarget", [tag, build, tag], {}),
    ]
    if external:
        calls.append(("addExternalRepoToTag", [build, external, 5], {"merge_mode": "bare"}))
    for group in ("build", "srpm-build", "wrapper-rpm-build"):
        calls.append(("groupListAdd", [build, group], {}))
        calls += [
            ("groupPackageListAdd", [build, group, name], {}) for name in sorted(seeds.BUILD_GROUP)
        ]
    return calls


def _write_command(koji: RealKoji) -> None:
    """`koji` for the user KOJI_USER, whose password is his name."""
    conf = koji.place / "conf/koji.conf"
    conf.write_text(
        f"[koji]\nserver = {koji.hub.url}\ntopurl = {koji.files.url}\ntopdir = {koji.hub.top}\n"
        "authtype = password\npoll_interval = 1\n"
        f"plugin_paths = {programs.checkout()}/plugins/cli\n"
    )
    tree = programs.checkout()
    koji.command.write_text(
        f"#!/bin/sh\nexport PYTHONPATH={tree}:{tree}/cli PYTHONDONTWRITEBYTECODE=1\n"
        "name=${KOJI_USER:-admin}\n"
        f'exec {koji.hub.python}/bin/python {tree}/cli/koji --user "$name" --password "$name"'
        f' -c {conf} "$@"\n'
    )
    koji.command.chmod(0o755)


def _write_etc_mock(cloud: Ec2Cloud, place: Path, max_nodes: int) -> Path:
    """/etc/mock of the builders."""
    etc = place / "etc-mock"
    (etc / "keys").mkdir(parents=True)
    (etc / "remotes.d").mkdir()
    # Where kojibuilder may read them: the lab's own are for root's eyes.
    shutil.copy(cloud.manifest, etc / "keys/manifest.dsse.json")
    for key in cloud.lab.keys.glob("*"):
        if key.suffix in (".pub", ".asc"):
            shutil.copy(key, etc / "keys")
    text = next(iter(cloud.private_files().values()))
    text = text.replace(str(cloud.manifest), "/etc/mock/keys/manifest.dsse.json")
    text = text.replace(str(cloud.lab.keys), "/etc/mock/keys") + _LEASE.format(max_nodes=max_nodes)
    remote = etc / "remotes.d/ec2.toml"
    remote.write_text(text)
    remote.chmod(0o600)
    for path in (etc / "keys").iterdir():
        path.chmod(0o644)
    (etc / "site-defaults.cfg").write_text("config_opts['remote'] = 'ec2'\n")
    return etc
