# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs a task of kojid's own code, with a hub that only records what it is told.

Started by koji_builder.py with the Python that has what koji needs, as root, in a mount namespace
where /usr/bin/mock and /etc/mock are the test's. Arguments: koji's checkout, kojid's configuration,
a file with the order (JSON), and where to write what happened (JSON).
"""

from __future__ import annotations

import base64
import contextlib
import importlib.machinery
import importlib.util
import json
import logging
import os
import sys
import time
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

TASK_ID = 41
LIMIT_S = 240.0


class Answers:
    """Any call at all: recorded, and answered from the order where that has an answer."""

    def __init__(self, hub: Hub, prefix: str) -> None:
        self._hub = hub
        self._prefix = prefix

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*args: Any, **keywords: Any) -> Any:
            return self._hub.answer(self._prefix + name, args, keywords)

        return call


class Hub(Answers):
    """koji's session object."""

    def __init__(self, answers: dict[str, Any]) -> None:
        super().__init__(self, "")
        self.host = Answers(self, "host.")
        self.opts = {"use_fast_upload": False}
        self.calls: list[Any] = []
        self.files: dict[str, bytearray] = {}
        self.shrunk: list[str] = []
        self._answers = answers

    def _forget(self) -> None:
        pass

    def answer(self, name: str, args: Any, keywords: Any) -> Any:
        self.calls.append([name, args, keywords])
        return self._answers.get(name)

    def uploadFile(  # noqa: N802
        self, _path: str, name: str, size: int, _digest: Any, offset: int, data: Any
    ) -> bool:
        content = self.files.setdefault(name, bytearray())
        found = base64.b64decode(data)
        if content[offset : offset + size] not in (b"", found):
            self.shrunk.append(name)  # a log that is another one than it was
        content[offset:] = found
        return True

    def uploadWrapper(self, local: str, _path: str, name: str = "", **_: Any) -> None:  # noqa: N802
        self.files[name or Path(local).name] = bytearray(Path(local).read_bytes())


def load_kojid(checkout: str) -> ModuleType:
    sys.path.insert(0, checkout)
    loader = importlib.machinery.SourceFileLoader("kojid", str(Path(checkout, "builder/kojid")))
    spec = importlib.util.spec_from_loader("kojid", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["kojid"] = module
    loader.exec_module(module)
    return module


def find_handlers(kojid: Any, order: dict[str, Any]) -> dict[str, Any]:
    """As kojid's main: its own, then those of a plugin, which is loaded with kojid as __main__."""
    import koji.daemon
    import koji.plugin

    manager = koji.daemon.TaskManager.__new__(koji.daemon.TaskManager)  # it would ask a real hub
    manager.handlers = {}
    manager.findHandlers(vars(kojid))
    if "plugin" in order:
        plugin, mine = Path(order["plugin"]), sys.modules["__main__"]
        sys.modules["__main__"] = kojid
        try:
            tracker = koji.plugin.PluginTracker(path=[str(plugin.parent)])
            loaded = tracker.load(plugin.stem)
        finally:
            sys.modules["__main__"] = mine
        loaded.CONFIG_FILE = order["plugin_conf"]
        manager.scanPlugin(loaded)
    handlers: dict[str, Any] = manager.handlers
    return handlers


def make_task(kojid: Any, order: dict[str, Any], hub: Hub, options: Any) -> Any:
    method = order["method"]
    task = find_handlers(kojid, order)[method](
        order.get("id", TASK_ID), method, order["params"], hub, options
    )
    task.taskinfo = {"owner": 1, "channel_id": 1}
    task.createWorkdir()
    os.chdir(task.workdir)  # as kojid's BaseTaskHandler.run does
    return task


def perform(task: Any, order: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"result": task.handler(*order["params"])}
    except BaseException as error:
        return {"error": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}


def cancel(kojid: Any, order: dict[str, Any], hub: Hub, options: Any) -> dict[str, Any]:
    """Start the task in a child, as kojid does, and cancel it once its log has the text wanted."""
    import koji.daemon

    task = make_task(kojid, order, hub, options)
    child = os.fork()
    if child == 0:
        os.setpgrp()
        perform(task, order)
        os._exit(0)
    deadline = time.monotonic() + LIMIT_S
    seen = b""
    while order["cancel"].encode() not in seen and time.monotonic() < deadline:
        time.sleep(0.2)
        with contextlib.suppress(FileNotFoundError):
            seen = Path(order["log"]).read_bytes()
    manager = koji.daemon.TaskManager.__new__(koji.daemon.TaskManager)
    manager.pids, manager.subsessions, manager.session = {TASK_ID: child}, {}, hub
    manager.logger = logging.getLogger("koji.TaskManager")
    before = manager._childPIDs(child)
    began = time.monotonic()
    if order.get("kill"):
        manager._killChildren(TASK_ID, list(before), sig=9, timeout=3.0)
        manager._waitTask(TASK_ID, child)
    else:
        manager.cleanupTask(TASK_ID)
    left = [command for pid, command in before if Path(f"/proc/{pid}/exe").exists()]
    took_s = time.monotonic() - began
    return {"processes": [command for _, command in before], "left": left, "took_s": took_s}


def clean_up(kojid: Any, options: Any, name: str) -> int:
    """What TaskManager does to a buildroot's directory that is old enough."""
    import koji.tasks

    return int(koji.tasks.safe_rmtree(f"{options.mockdir}/{name}", unmount=True, strict=False))


def main(checkout: str, conf: str, order_file: str, report_file: str) -> int:
    order = json.loads(Path(order_file).read_text())
    kojid: Any = load_kojid(checkout)
    logging.basicConfig(stream=sys.stderr, level=logging.DEBUG)
    sys.argv = ["kojid", "-c", conf, "--fg"]
    options = kojid.get_options()
    hub = Hub(order["answers"])
    if "cancel" in order:
        report = cancel(kojid, order, hub, options)
    elif "clean" in order:
        report = {"code": clean_up(kojid, options, order["clean"])}
    else:
        report = perform(make_task(kojid, order, hub, options), order)
    files = {name: base64.b64encode(data).decode() for name, data in hub.files.items()}
    report.update(calls=hub.calls, files=files, shrunk=hub.shrunk)
    Path(report_file).write_text(json.dumps(report))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
