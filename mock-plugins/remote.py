# SPDX-License-Identifier: GPL-2.0-or-later
"""mock's plugin `remote`: what mock was asked to do happens on an attested remote node.

It takes over the invocation that mock has parsed, before there is a chroot, and starts
`mock-cloud-session` as the invoking user: this process has root's rights, so it does no cloud, SSH
or network work and sees no credentials. Then mock's plugins for finished packages do their work
here. Needs mock's own Python (3.9 or later) and nothing else; see mock-plugins/README.md.
"""

from __future__ import annotations

import ctypes
import inspect
import json
import os
import pwd
import re
import shlex
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager

from mockbuild import util
from mockbuild.exception import ConfigError, Error
from mockbuild.trace_decorator import getLog

requires_api_version = "1.1"
run_in_bootstrap = False

HANDOVER_VERSION = 2
SESSION = "mock-cloud-session"
# Plugins that work on finished packages and logs; the others look into the chroot.
CONTROLLER_PLUGINS = ("sign", "compress_logs")
PROVENANCE = "remote_provenance.json"
LOCAL_MODES = ("debugconfig", "debugconfigexpand", "listchroots")
ENTRY_POINT = ["options", "args", "config_opts", "commands", "buildroot"]
REPORT_MAX_BYTES = 1 << 20
PR_SET_PDEATHSIG = 1  # linux/prctl.h
# mock's sign plugin hands the names to a shell, and they were chosen on the node.
PACKAGE = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._+~^-]*/)?[A-Za-z0-9_][A-Za-z0-9._+~^-]*\.rpm")


def init(plugins, conf, buildroot):
    """mock calls this once. Without a remote it changes nothing."""
    name = find_remote(sys.argv[1:], conf, buildroot.config)
    if name is not None:
        Takeover(name, plugins, conf, buildroot).install()


def find_remote(words, conf, config_opts):
    """The remote's name, or None to go on here.

    In this order: the command line, MOCK_REMOTE, the configuration as mock read it.
    """
    words = words[: words.index("--")] if "--" in words else words
    if "--no-remote" in words:
        return None
    name = conf.get("name") or os.environ.get("MOCK_REMOTE") or config_opts.get("remote")
    for number, word in enumerate(words):
        if word == "--remote":
            name = "".join(words[number + 1 : number + 2])
        elif word.startswith("--remote="):
            name = word.partition("=")[2]
    if name is None or name is False or name == "":
        return None
    if not isinstance(name, str):
        raise ConfigError("config_opts['remote'] is %r, not a remote's name" % (name,))
    return name


class Takeover:
    """One invocation, handed to a session of the invoking user's."""

    def __init__(self, name, plugins, conf, buildroot):
        self.name = name
        self.plugins = plugins
        self.conf = conf
        self.buildroot = buildroot
        self.own = tuple(conf.get("controller_plugins", CONTROLLER_PLUGINS))
        self.local = None

    def install(self):
        """Stand in for mock's `run_command`; Error if this mock has no such thing."""
        main = sys.modules["__main__"]
        self.local = getattr(main, "run_command", None)
        hooks = getattr(self.plugins, "_hooks", None)
        if not callable(self.local) or not isinstance(hooks, dict):
            raise self._changed("it has no run_command or keeps its hooks elsewhere")
        found = list(inspect.signature(self.local).parameters)
        if found != ENTRY_POINT:
            raise self._changed("its run_command takes " + ", ".join(found))
        main.run_command = self.run_command
        self.plugins.add_hook("list_snapshots", self.list_snapshots)
        # Should mock ever get to a chroot by another way, then no further.
        for stage in ("mount_root", "preinit"):
            self.plugins.add_hook(stage, self.refuse_chroot)

    def refuse_chroot(self):
        if self.local is not None:
            raise self._changed("it began to make a chroot here")

    def _changed(self, how):
        return Error(
            "remote %s: this mock cannot hand its work over: %s. Nothing was built."
            " Update mock-cloud's plugin, or build here with --disable-plugin=remote"
            % (self.name, how)
        )

    def run_command(self, options, args, config_opts, commands, buildroot):
        """Called by mock in place of its own: mock's exit code."""
        if options.mode in LOCAL_MODES:
            local, self.local = self.local, None
            return local(options, args, config_opts, commands, buildroot)
        code, report = self._perform(options.mode, config_opts)
        self._finish(options, config_opts, code, report)
        return code

    def list_snapshots(self):
        """mock lists them before it would run a command, and then ends."""
        sys.exit(self._perform("list-snapshots", self.buildroot.config)[0])

    def _perform(self, mode, config_opts):
        if self.conf.get("finish"):  # what another command of mock-cloud has published
            path, code = self.conf["finish"]
            with self.buildroot.uid_manager, open(path, "rb") as published:
                return code, read_report(published.fileno())
        with memory_file("handover") as handover, memory_file("report") as report:
            write_all(handover, encode(self._handover(mode, config_opts)))
            words = [str(handover), str(report)]
            return self._run_session(words, handover, report), read_report(report)

    def _handover(self, mode, config_opts):
        config = plain_options(config_opts)
        disabled = {"%s_enable" % name: False for name in ("remote", *self.own)}
        config["plugin_conf"] = dict(config["plugin_conf"], **disabled)
        config["createrepo_on_rpms"] = False
        return {
            "version": HANDOVER_VERSION,
            "remote": self.name,
            "mode": mode,
            "argv": sys.argv[1:],
            # Its code goes along to the node, so that both sides are one version.
            "mock": [os.path.abspath(sys.modules["__main__"].__file__), sys.executable],
            "config_opts": config,
        }

    def _run_session(self, words, *descriptors):
        user = invoking_user(self.buildroot.uid_manager)
        # As mock found it, with the SSH agent's socket that it removed for the chroot's sake.
        environ = dict(self.buildroot.uid_manager.unprivEnviron)
        environ.update(HOME=user.pw_dir, USER=user.pw_name, LOGNAME=user.pw_name)
        argv = [*self._session(environ), *words]
        libc = ctypes.CDLL(None)

        def last_steps():
            # Runs after the change of user, which would reset the first.
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
            libc.personality(0)  # mock set the chroot's: uname would name its architecture

        with signals_passed_on() as children:
            try:
                child = subprocess.Popen(
                    argv,
                    env=environ,
                    user=user.pw_uid,
                    group=user.pw_gid,
                    extra_groups=os.getgrouplist(user.pw_name, user.pw_gid),
                    pass_fds=descriptors,
                    preexec_fn=last_steps,  # noqa: PLW1509  calls into libc only
                )
            except (OSError, subprocess.SubprocessError) as error:
                raise Error("remote %s: cannot run %s: %s" % (self.name, argv[0], error)) from error
            children.append(child)
            code = child.wait()
        if code < 0:
            name = signal.Signals(-code).name
            raise Error("remote %s: %s ended by %s" % (self.name, argv[0], name), 128 - code)
        return code

    def _session(self, environ):
        command = self.conf.get("session")
        if command:
            return shlex.split(command) if isinstance(command, str) else list(command)
        found = shutil.which(SESSION, path=environ.get("PATH", os.defpath))
        if found is None:
            raise ConfigError(
                "remote %s: no %s on the PATH: install mock-cloud, or set"
                " config_opts['plugin_conf']['remote_opts']['session']" % (self.name, SESSION)
            )
        return [found]

    def _finish(self, options, config_opts, code, report):
        """mock's plugins for finished packages, at the points where mock has them."""
        if report is None:
            return
        self.buildroot.state.result = "success" if code == 0 else "fail"
        sign = self._hooks("postbuild")
        place, packages = report
        for directory in sorted({os.path.dirname(name) for name in packages} or {""}):
            here = [name for name in packages if os.path.dirname(name) == directory]
            self.buildroot.resultdir = os.path.join(place, directory)
            self.buildroot.final_rpm_list = [os.path.basename(name) for name in here]
            for hook in (*sign, *self._hooks("process_logs")):
                hook()
        # A chain's repository names the packages by digests, which signing changes.
        wanted = options.mode == "rebuild" and code == 0 and config_opts["createrepo_on_rpms"]
        if wanted or (options.mode == "chain" and packages and sign):
            getLog().info("Running createrepo on binary rpms in resultdir")
            with self.buildroot.uid_manager:
                util.createrepo(config_opts, place)
        if packages and (wanted or sign or self._hooks("process_logs")):
            self._renew(options, place)

    def _renew(self, options, place):
        """What the plugins did here is signed for, too: see mock_cloud.steps.sign.renewing."""
        if os.path.exists(os.path.join(place, PROVENANCE)):
            configdir = [options.configdir] if options.configdir else []
            self._run_session(["renew", self.name, place, *configdir])

    def _hooks(self, stage):
        hooks = self.plugins._hooks.get(stage, ())
        return [hook for hook in hooks if hook.__module__ in self.own]


def invoking_user(uid_manager):
    """Who typed the command, by mock's own rules; not `chrootuid`, which may be anybody."""
    for variable in ("USERHELPER_UID", "SUDO_UID"):
        if os.environ.get(variable):
            return pwd.getpwuid(int(os.environ[variable]))
    # mock's own wrapper: the first thing on the stack is what it was started with.
    return pwd.getpwuid(uid_manager.privStack[0]["ruid"])


def plain_options(config_opts):
    """The options as mock has them, templates unexpanded: what JSON can say."""
    expand = config_opts["__jinja_expand"]
    config_opts["__jinja_expand"] = False
    try:
        found = {key: config_opts[key] for key in config_opts if not key.startswith("_")}
    finally:
        config_opts["__jinja_expand"] = expand
    for key, value in found.items():
        try:
            encode(value)
        except (TypeError, ValueError) as error:
            raise ConfigError("config_opts[%r] cannot be handed over: %s" % (key, error)) from error
    return found


def encode(value):
    def items(thing):
        if isinstance(thing, (set, frozenset)):
            return sorted(thing)
        raise TypeError("it holds a %s" % type(thing).__name__)

    return json.dumps(value, default=items).encode()


@contextmanager
def memory_file(name):
    """A file without a name. What it holds may be secret: it is in no directory, no argv."""
    descriptor = os.memfd_create("mock-cloud-" + name, os.MFD_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def write_all(descriptor, data):
    with os.fdopen(os.dup(descriptor), "wb") as stream:
        stream.write(data)
    os.lseek(descriptor, 0, os.SEEK_SET)


def read_report(descriptor):
    """(directory, names of packages in it), or None: the session had nothing to report.

    The session ran as the user, and the names come from the node: neither is trusted here.
    """
    data = os.pread(descriptor, REPORT_MAX_BYTES + 1, 0)
    if not data:
        return None
    try:
        report = json.loads(data) if len(data) <= REPORT_MAX_BYTES else None
        place, packages = report["directory"], report["packages"]
        names = [name for name in packages if PACKAGE.fullmatch(name)]
        if not os.path.isabs(place):
            raise ValueError("the directory is not absolute")
    except (ValueError, TypeError, KeyError) as error:
        raise Error("the session's report cannot be read: %s" % error) from error
    for name in packages:
        if name not in names:
            raise Error("the package name %a is refused: nothing was signed" % name)
    return place, names


@contextmanager
def signals_passed_on():
    """Within the block signals that end mock go to the session, which ends what it began.

    Yields the list to put the child into. Afterwards mock has its own handlers again.
    """
    children = []

    def pass_on(number, _frame):
        for child in children:
            child.send_signal(number)

    before = {n: signal.signal(n, pass_on) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield children
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
