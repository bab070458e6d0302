# SPDX-License-Identifier: GPL-2.0-or-later
"""One job by real mock: everything laid out, mock run, what it left recorded."""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from mock_cloud.agent.engine import layers, processes
from mock_cloud.agent.engine.builddir import pack_builddir
from mock_cloud.agent.engine.context import Job, remove_earlier
from mock_cloud.agent.engine.errors import Cancelled, ConfigurationError
from mock_cloud.agent.engine.mock import places, plugins
from mock_cloud.agent.engine.mock.accounts import USER, write_accounts
from mock_cloud.agent.engine.mock.config import chroot_digest, place, plugin_directory, write_config
from mock_cloud.agent.engine.mock.gains import Gains
from mock_cloud.agent.engine.mock.inputs import lay_out, link_earlier, unpack_kit
from mock_cloud.agent.engine.mock.output import Filter
from mock_cloud.agent.engine.mock.start import write_start
from mock_cloud.agent.engine.mock.state import MockState
from mock_cloud.agent.engine.relay import Program, on_pipes, on_terminal, terminal_of
from mock_cloud.agent.engine.shadow import ShadowPacker
from mock_cloud.agent.engine.space import SpaceWatch
from mock_cloud.wire.job_request import (
    COPYOUT_NAME,
    GAINS_NAME,
    SCAN,
    SCAN_ARCHIVE,
    TREES,
    Input,
    MockRun,
    can_travel,
    tunnel_url,
)
from mock_cloud.wire.layout import CA_BUNDLES, NODE_PATH
from mock_cloud.wire.terminal_log import STDERR
from mock_cloud.wire.tree_archive import Writer

PYTHON: Final = "/usr/bin/python3"
PYTHON_OPTIONS: Final = ("-s", "-E", "-B")
NODES_MOCK: Final = "/usr/libexec/mock/mock"
_PACKAGE_MANAGERS: Final = tuple(
    f"/usr/bin/{name}" for name in ("dnf-3", "dnf", "dnf5", "yum", "microdnf")
)
_RPM_MODULES: Final = (
    "/usr/lib*/python3*/site-packages/rpm/__init__.py",
    "/usr/lib/python3/dist-packages/rpm/__init__.py",
)
_INTERACTIVE: Final = ("shell", "chroot")
_NAMED: Final = ("srpm", "spec", "source", "package", "copyin")
"""Roles of inputs that the user named: messages call them as the user did."""

_FRESH: Final = ("init", "clean", "scrub")
_LOGS: Final = ("build.log", "root.log")
_TAIL_BYTES: Final = 1 << 16


class MockEngine:
    """Performs a request that has `mock`. Close it, then ask what is left on the node."""

    def __init__(self, job: Job, run: MockRun) -> None:
        self._job = job
        self._run = run
        self._store = layers.LayerStore(job.workspace, job.id, job.request.layers)
        self._state = MockState(job.workspace, job.id, run.root, self._store, foreign=run.foreign)
        self._shadow: ShadowPacker | None = None
        self._cancelled = False

    def perform(self) -> int:
        """mock's own exit code. Raises EngineError for what keeps mock from being run."""
        try:
            code = self._perform()
        except Cancelled:
            self._cancelled = True
            raise
        if self._shadow is not None:
            self._shadow.finish()
        pack_builddir(self._job, self._state.root)
        return code

    def close(self) -> None:
        """Measure and record what stays. Idempotent."""
        processes.kill_others()
        if self._shadow is not None:
            self._shadow.close()
        # A cancel has no time for it, and a chroot that was cut off is of no use.
        self._state.close(record=not self._cancelled)
        self._store.close()

    def trees(self) -> dict[str, str]:
        """As `Status.layers`."""
        return self._store.present()

    def kept(self) -> list[str]:
        """As `Status.chroots`."""
        return [self._state.chroot.base] if self._state.is_kept else []

    def _perform(self) -> int:
        job, run = self._job, self._run
        script = self._find_script()
        top = os.path.join(job.directory, "mock")
        shown_results = places.results_of(job.request.mode, run.chroot_name)
        # Only the layout until the state is taken: its paths change with that.
        layout = places.Places(top, job.results, shown_results, "", "", "")
        layout.prepare()
        gid = write_accounts(layout.inside(f"{places.HERE}/private"), run.chrootuid, places.HOME)
        if job.request.beside:
            self._state.join(gid)
        else:
            self._state.take(gid)
        layout = places.Places(
            top, job.results, shown_results, self._state.chroots, self._state.cache,
            self._state.written_cache, self._state.joined,
        )  # fmt: skip
        for shown in (places.COPYOUT, places.HOME):
            os.chown(layout.inside(shown), run.chrootuid, gid)
        os.chown(job.results, run.chrootuid, gid)
        if run.kit:
            kit = self._take_kit(job.find_input(run.kit), layout)
            layout = replace(layout, kit=kit)
        else:
            plugin_dir = layout.inside(plugin_directory(has_kit=False))
            plugins.link_plugins(plugin_dir)
            plugins.add_plugins(plugin_dir)
        lay_out(job, layout.inside(places.INPUTS), (run.chrootuid, gid))
        write_config(layout.inside(places.CONFIG), run, tunnel_url(job.request))
        write_start(layout.inside(places.START))
        self._state.check_cached(chroot_digest(run))
        if job.request.mode == "chain":
            link_earlier(job, (run.chrootuid, gid))
        gains = self._begin_gains(layout)
        self._begin_shadow()
        try:
            code = self._run_mock([*script, *self._words(layout)], layout, gid)
            _pack_scans(job)
            return code
        finally:
            if job.request.mode == "chain":
                remove_earlier(job.results)
            if job.request.mode == "copyout":
                _pack(layout.inside(places.COPYOUT), os.path.join(job.results, COPYOUT_NAME))
            for problem in gains.pack(os.path.join(job.results, GAINS_NAME)):
                _, _, path = problem.path.removeprefix(layout.top).rpartition(f"/{TREES}/")
                job.logs.warning(f"{path!a} does not go back: {problem.why}")

    def _take_kit(self, item: Input, layout: places.Places) -> str:
        """Where mock's own code is: a layer, but for a job beside another one, which keeps none."""
        if self._job.request.beside:
            kit = layout.inside(places.KIT)
            self._unpack_kit(item, kit)
            return kit
        key = layers.key_of(kind="kit", archive=item.digest, plugins=plugins.digest())
        found = self._store.find(key)
        if found is not None:
            return found
        draft = self._store.draft(key)
        self._unpack_kit(item, draft.root)
        return self._store.keep(draft, key, "kit", revisions={}, requirements=[])

    def _unpack_kit(self, item: Input, directory: str) -> None:
        unpack_kit(self._job, item, directory)
        plugins.add_plugins(os.path.join(directory, "mockbuild/plugins"))

    def _begin_gains(self, layout: places.Places) -> Gains:
        inside = [layout.inside(f"{places.HERE}/{name}") for name in self._run.returns]
        for path in inside:
            os.makedirs(path, mode=0o755, exist_ok=True)  # trees are there
        return Gains({str(number): path for number, path in enumerate(inside)})

    def _begin_shadow(self) -> None:
        """What the controller shares with the chroot goes into one that is there already.

        Between the making of a chroot and its use mock cannot be stopped.
        """
        root = self._state.root
        shadow = ShadowPacker(self._job, root, self._run.chrootuid)
        if self._state.is_kept:
            shadow.begin(fresh=False, may_be_replaced=True)  # mock cleans what it is told to
        elif self._job.request.mode not in _FRESH:
            shadow.refuse_new_chroot()
        self._shadow = shadow

    def _tick(self, watch: SpaceWatch) -> None:
        watch.glance()
        if self._shadow is not None:
            self._shadow.poll()

    def _find_script(self) -> list[str]:
        """The interpreter and mock's script. ConfigurationError names what the node lacks."""
        lacking = []
        if not os.path.exists(PYTHON):
            lacking.append("python3")
        elif not _has_rpm_module():
            lacking.append("python3-rpm")
        if not any(map(os.path.exists, _PACKAGE_MANAGERS)):
            lacking.append("dnf")
        if not self._run.kit and not os.path.exists(NODES_MOCK):
            lacking.append("mock")
        if lacking:
            raise ConfigurationError(
                f"the node has no {' and no '.join(lacking)}, which the mock engine needs"
            )
        script = f"{places.KIT}/mock.py" if self._run.kit else NODES_MOCK
        return [PYTHON, *PYTHON_OPTIONS, places.START, script]

    def _words(self, layout: places.Places) -> Iterator[str]:
        run = self._run
        yield f"--configdir={places.CONFIG}"
        if "--hermetic-build" not in run.argv:
            yield f"--root={run.chroot_name}"
        if self._job.request.mode == "chain":
            yield f"--localrepo={places.LOCAL_REPOSITORY}"
        else:
            yield f"--resultdir={layout.shown_results}"
        for word in run.argv:
            yield place(word)

    def _cwd(self) -> str:
        return f"{places.HERE}/{self._run.cwd}" if self._run.cwd else "/"

    def _run_mock(self, argv: list[str], layout: places.Places, gid: int) -> int:
        job = self._job
        watch = SpaceWatch((layout.chroots, job.directory, "/var/tmp"))  # noqa: S108
        pty = job.request.pty if job.request.mode in _INTERACTIVE else []
        output = _Output(job, layout, watch, on_terminal=bool(pty))
        environment = _environment(self._run.chrootuid, gid)

        def tick() -> None:
            self._tick(watch)

        if pty:
            size, term = terminal_of(pty)
            environment["TERM"] = term or environment["TERM"]
        place = processes.Place(
            layout.tree(), may_mount=True, environment=environment, cwd=self._cwd()
        )
        program = Program(argv, place, tick)
        if pty:
            code = on_terminal(program, "", 0, size, job.directory, output.write)
        else:
            directory = job.directory if job.request.mode == "shell" else ""
            code = on_pipes(program, directory, output.write)
        output.finish()
        if code:
            _raise_if_full(watch, job.results)
        return code


class _Output:
    """mock's two streams on their way to the terminal log."""

    def __init__(
        self, job: Job, layout: places.Places, watch: SpaceWatch, *, on_terminal: bool
    ) -> None:
        self._terminal = job.logs.terminal
        self._watch = watch
        named = [(item.role, item.name) for item in job.request.inputs if item.role in _NAMED]
        if job.request.mode == "copyin":  # one archive has all of them
            named += [("copyin", name) for name in job.request.shown]
        paths = {f"{places.INPUTS}/{role}/{name}": job.shown(name) for role, name in named}
        paths[layout.shown_results] = job.shown_results
        if job.request.mode == "copyout":
            target = job.shown_results
            paths[places.COPYOUT] = paths[f"{places.COPYOUT}/{os.path.basename(target)}"] = target
        shown = {os.fsencode(path): os.fsencode(name) for path, name in paths.items()}
        # What else lies there, and a name that is the beginning of another, comes after these.
        shown = dict(sorted(shown.items(), key=lambda pair: -len(pair[0])))
        shown |= {f"{places.INPUTS}/{role}/".encode(): b"" for role in _NAMED}
        # On a terminal nothing is held back: a shell's prompt ends like a path.
        self._stderr = 1 if on_terminal else STDERR
        self._filter = Filter({} if on_terminal else shown, drops_banner=job.request.verbose > 0)

    def write(self, stream: int, data: bytes) -> None:
        self._watch.look(data)
        if stream == self._stderr:
            data = self._filter.feed(data)
        if data:
            self._terminal.write(stream, data)

    def finish(self) -> None:
        held = self._filter.finish()
        if held:
            self._terminal.write(self._stderr, held)


def _has_rpm_module() -> bool:
    """Whether python3 has rpm's bindings; it is only asked where they are not in a usual place."""
    if any(glob.glob(pattern) for pattern in _RPM_MODULES):
        return True
    argv = [PYTHON, *PYTHON_OPTIONS, "-c", "import rpm"]
    status, _ = processes.capture(argv, processes.Place())
    return status == 0


def _environment(uid: int, gid: int) -> dict[str, str]:
    """As sudo would start mock, for the build user."""
    environment: Mapping[str, str] = {
        "PATH": NODE_PATH,
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "TERM": "vt100",
        "USER": "root",
        "LOGNAME": "root",
        "SUDO_UID": str(uid),
        "SUDO_GID": str(gid),
        "SUDO_USER": USER,
    }
    # The controller's copy of requests may look for another distribution's.
    bundle = next((path for path in CA_BUNDLES if os.path.exists(path)), "")
    return {**environment, **({"REQUESTS_CA_BUNDLE": bundle} if bundle else {})}


def _raise_if_full(watch: SpaceWatch, results: str) -> None:
    """NoSpace if that was why: mock's logs have what its commands printed."""
    for where, _, names in os.walk(results):
        for name in set(names) & set(_LOGS):
            watch.raise_if_said(_tail(os.path.join(where, name)))
    watch.raise_if_said("")


def _tail(path: str) -> str:
    with open(path, "rb") as stream:
        stream.seek(max(0, os.fstat(stream.fileno()).st_size - _TAIL_BYTES))
        return stream.read().decode(errors="replace")


def _pack_scans(job: Job) -> None:
    """Make archives of what the plugin chroot_scan copied; warn of results that cannot travel."""
    for where, names, files in os.walk(job.results):
        if SCAN in names:
            names.remove(SCAN)
            _pack(os.path.join(where, SCAN), os.path.join(where, SCAN_ARCHIVE))
            shutil.rmtree(os.path.join(where, SCAN))
        for name in files:
            path = os.path.relpath(os.path.join(where, name), job.results)
            if not can_travel(path):
                job.logs.warning(f"the result {path!a} has a name that cannot travel: it stays")


def _pack(directory: str, path: str) -> None:
    """What is in `directory`, if anything, as the archive `path`."""
    names = sorted(os.listdir(directory))
    if not names:
        return
    with open(path, "wb") as stream:
        archive = Writer(stream)
        for name in names:
            archive.add(name, os.path.join(directory, name))
        archive.close()
