# SPDX-License-Identifier: GPL-2.0-or-later
"""Our loader and mock's own agree with users' files, paths, includes, and what options change.

Needs a checkout of mock, as test_config_agreement.py does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mock_cloud.config.chroots import load_config_opts
from mock_cloud.config.overrides import apply_command_line
from mock_cloud.errors import MockCloudError
from mock_cloud.invocation.parser import parse_command_line

SOURCE = os.environ.get("MOCK_CLOUD_TEST_MOCK_SOURCE", "")
PYTHON = os.environ.get("MOCK_CLOUD_TEST_MOCK_PYTHON", sys.executable)

pytestmark = pytest.mark.skipif(
    not SOURCE, reason="needs a mock checkout: set MOCK_CLOUD_TEST_MOCK_SOURCE"
)

# As in test_config_agreement.py; and whether there is a terminal.
HOST_BOUND = {
    "mock_run_uuid", "version", "plugin_dir", "__jinja_expand", "_aliases", "print_main_output",
}  # fmt: skip

UPSTREAM = """
import importlib.util, json, os, sys, warnings
warnings.simplefilter("ignore")
source, home = sys.argv[1:]
sys.path.insert(0, source + "/mock/py")
sys.argv = [source + "/mock/py/mock.py"]
plain = os.path.expanduser
os.path.expanduser = lambda path: home if path.startswith("~") and "/" not in path else plain(path)
try:
    found = importlib.util.spec_from_file_location("mock_main", source + "/mock/py/mock.py")
    main = importlib.util.module_from_spec(found)
    found.loader.exec_module(main)
except ImportError as error:
    sys.exit(f"MISSING {error}")
config = main.config
show = lambda value: json.dumps(value, default=lambda it: type(it).__name__, sort_keys=True)
plugins = list(config.PLUGIN_LIST)
out = []
for words in json.load(sys.stdin):
    config.PLUGIN_LIST[:] = plugins
    sys.argv = [source + "/mock/py/mock.py", *words]
    try:
        options, args = main.command_parse()
        opts = config.load_config(options.configdir, options.chroot)
        config.set_config_opts_per_cmdline(opts, options, args)
    except main.mockbuild.exception.Error as error:
        out.append(error.resultcode)
        continue
    except SystemExit as stop:
        out.append(stop.code)
        continue
    except Exception:
        out.append("crash")  # a traceback, exit status 1
        continue
    if "unique-ext" in opts:  # as its Buildroot does, later
        opts["root"] = "%s-%s" % (opts["root"], opts["unique-ext"])
    shown = []
    for expand in (False, True):
        opts["__jinja_expand"] = expand
        shown.append({key: show(opts[key]) for key in sorted(opts)})
    out.append(shown)
json.dump(out, sys.stdout)
"""

CHROOT = """\
include('templates/base.tpl')
config_opts['root'] = 'toy-{{ releasever }}-{{ target_arch }}'
config_opts['releasever'] = '7'
config_opts['target_arch'] = 'x86_64'
config_opts['legal_host_arches'] = ('x86_64',)
config_opts['macros']['%dist'] = '.toy{{ releasever }}'
"""
FILES = {
    "etc/site-defaults.cfg": "config_opts['environment']['SITE'] = '{{ root }}'\n"
    "config_opts['plugin_conf']['tmpfs_opts']['required_ram_mb'] = 9\n",
    "etc/chroot-aliases.cfg": "config_opts['no-config'] = {'old': {'alternatives': {}}}\n",
    "etc/toy.cfg": CHROOT,
    "etc/templates/base.tpl": "include('templates/' + 'more.tpl')\n"
    "config_opts['dnf.conf'] = '[main] # {{ root }} {{ repo_arch }}'\n",
    "etc/templates/more.tpl": "config_opts['more'] = '{{ more_yet }}'\n"
    "config_opts['more_yet'] = ['{{ root }}', 1]\n"
    "include('templates/base.tpl')\n",
    "elsewhere/mine.cfg": "include('toy.cfg')\nconfig_opts['root'] += '-mine'\n",
    "elsewhere/again.cfg": "include(os.path.join('{place}', 'elsewhere/mine.cfg'))\n",
    "elsewhere/old.cfg": "include('toy.cfg')\nconfig_opts['use_bootstrap_container'] = False\n"
    "config_opts['yum.conf'] = '[main]'\nconfig_opts['macros']['plain'] = 'x'\n",
    "home/.config/mock.cfg": "config_opts['resultdir'] = '/results/{{ root }}'\n"
    "config_opts['macros']['%who'] = 'me'\n"
    "config_opts['rpmbuild_opts'] = '--verbose'\n",
    "home/.mock/user.cfg": "config_opts['macros']['%who'] = 'not me'\n",
    "home/.config/mock/own.cfg": "include('toy.cfg')\nconfig_opts['root'] = 'own'\n",
    "macros": "%x y\n",
}

MODES = {"--init", "--dnf-cmd", "--yum-cmd", "--scrub", "--buildsrpm", "--scm-enable"}
"""What needs no SRPM."""

LINES: tuple[tuple[str, ...], ...] = (
    (),
    ("-r", "own"),
    ("-r", "{place}/elsewhere/mine.cfg"),
    ("-r", "{place}/elsewhere/again.cfg"),
    ("-r", "{place}/elsewhere/old.cfg"),
    ("-r", "nowhere"),
    ("-r", "{place}/nowhere.cfg"),
    ("--enablerepo", "a", "--disablerepo=b", "--enablerepo=c*"),
    ("--uniqueext", "x"),
    ("--uniqueext", "x", "--resultdir", "/tmp/out", "--rootdir", "/tmp/root"),
    ("--resultdir", "/var/lib/mock/toy-7-x86_64/result"),
    ("--resultdir", "/srv/%(root)s"),
    ("--arch", "i686"),
    ("--forcearch", "aarch64"),
    ("--arch", "aarch64", "--forcearch", "aarch64", "--target", "noarch"),
    ("--target", "i586"),
    ("--target", "i586,i686"),
    ("--isolation", "simple"),
    ("--isolation", "nspawn"),
    ("--isolation", "auto"),
    ("--isolation", "other"),
    ("--old-chroot",),
    ("--new-chroot",),
    ("--no-bootstrap-chroot",),
    ("--bootstrap-chroot", "--use-bootstrap-image"),
    ("--no-bootstrap-chroot", "--use-bootstrap-image"),
    ("--no-bootstrap-image",),
    ("--buildroot-image", "fedora:rawhide"),
    ("--buildroot-image", "{place}/macros"),
    ("--dnf",),
    ("--yum",),
    ("--dnf-cmd", "list"),
    ("--yum-cmd", "list"),
    ("-D", "a b", "--define", "%c  d e ", "--with", "f-g", "--without", "h"),
    ("-D", "word"),
    ("--macro-file", "{place}/macros"),
    ("--config-opts", "a=1", "--config-opts=b=true", "--config-opts", "c="),
    ("--config-opts", "a=1", "--config-opts", "a=2", "--config-opts", "a=x"),
    ("--config-opts", "a=x", "--config-opts", "a="),
    ("--config-opts", "a=[1, 2]", "--config-opts", "b='q'", "--config-opts", "c=None"),
    ("--config-opts", "root=other-{{ releasever }}"),
    ("--config-opts", "releasever=8", "--config-opts", "cleanup_on_success=False"),
    ("--config-opts", "word"),
    ("--enable-plugin", "tmpfs", "--disable-plugin=root_cache"),
    ("--enable-plugin", "nothing"),
    ("--plugin-option", "tmpfs:keep_mounted=True", "--plugin-option=tmpfs:mode='0700'"),
    ("--plugin-option", "sign:opts=%(rpms)s a=b", "--plugin-option=bind_mount:dirs=[('a', 'b')]"),
    ("--plugin-option", "word"),
    ("--plugin-option", "nothing:a=b"),
    ("-n",),
    ("--cleanup-after",),
    ("-N",),
    ("-N", "--cleanup-after"),
    ("--nocheck", "--postinstall", "--rpmbuild_timeout", "7", "--rpmbuild-opts=-v -v"),
    ("--short-circuit", "install"),
    ("--enable-network", "--offline", "--cache-alterations"),
    ("--additional-package", "a", "--additional-package", "b", "--rebuild"),
    ("--calculate-build-dependencies",),
    ("--scm-enable", "--scm-option", "method=git", "--scm-option", "package=x=y"),
    ("--scm-enable", "--scm-option", "word"),
    ("-q", "--init"),
    ("-v", "--trace"),
    ("--scrub", "all", "--scrub=chroot"),
    ("-a", "http://repo.invalid/x", "--addrepo=file:///x"),
    ("--chain", "--localrepo", "/tmp/x", "a.src.rpm", "b.src.rpm"),
    ("a.src.rpm", "b.src.rpm"),
    ("a.src.rpm", "b.src.rpm", "--resultdir=/tmp/x"),
    ("--hermetic-build", "{place}/lock.json", "{place}", "-r", "toy"),
    ("--hermetic-build", "{place}/lock.json", "{place}", "--init"),
    ("--recurse",),
    ("--continue", "--init"),
    ("--localrepo=x",),
    ("--additional-package", "a", "--init"),
    ("--buildsrpm",),
    ("--short-circuit=nothing",),
    ("--rpmbuild_timeout=x",),
)  # fmt: skip


def _ours(words: list[str], home: Path) -> int | list[dict[str, str]]:
    try:
        line = parse_command_line(words, {})
        opts = load_config_opts(line.chroot, Path(line.configdir or ""), home=home)
        apply_command_line(opts, line)
    except MockCloudError as error:
        return error.exit_code
    shown = []
    for expand in (False, True):
        opts["__jinja_expand"] = expand
        shown.append({key: _show(opts[key]) for key in sorted(opts)})
    return shown


def _expected(theirs: Any) -> Any:
    """What we make of mock's refusal: a command line that it can't read is always 5."""
    return 5 if theirs in ("crash", 2) else theirs


def _unlike(wanted: dict[str, Any], mine: dict[str, Any], key: str) -> str:
    theirs, ours = wanted.get(key), mine.get(key)
    if isinstance(theirs, dict) and isinstance(ours, dict):
        name = next(k for k in theirs | ours if theirs.get(k) != ours.get(k))
        return f"{key}: {_unlike(theirs, ours, name)}"
    return f"{key}: mock {theirs}, ours {ours}"


def _show(value: Any) -> str:
    return json.dumps(value, default=lambda it: type(it).__name__, sort_keys=True)


def _comparable(shown: dict[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {k: v for k, v in shown.items() if k not in HOST_BOUND}
    values["config_paths"] = sorted(json.loads(values["config_paths"]))
    plugins, plugin_conf = json.loads(values["plugins"]), json.loads(values["plugin_conf"])
    values["plugins"] = [name for name in plugins if name != "__init__"]
    values["plugin_conf"] = {k: v for k, v in plugin_conf.items() if "__init__" not in k}
    return values


def test_options_change_a_configuration_as_in_mock(tmp_path: Path) -> None:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("{place}", str(tmp_path)))
    lines = []
    for line in LINES:
        words = [word.replace("{place}", str(tmp_path)) for word in line]
        chroot = [] if {"-r", "--hermetic-build"} & set(words) else ["-r", "toy"]
        srpm = [] if MODES & set(words) or "a.src.rpm" in words else ["x.src.rpm"]
        lines.append(["--configdir", str(tmp_path / "etc"), *chroot, *words, *srpm])
    done = subprocess.run(
        [PYTHON, "-c", UPSTREAM, SOURCE, str(tmp_path / "home")],
        input=json.dumps(lines),
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    if "MISSING" in done.stderr:
        pytest.skip(f"{PYTHON} lacks mock's dependencies: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr[-2000:]
    different = []
    for words, theirs in zip(lines, json.loads(done.stdout), strict=True):
        ours = _ours(words, tmp_path / "home")
        if not (isinstance(ours, list) and isinstance(theirs, list)):
            if ours != _expected(theirs):
                said = ["opts" if isinstance(value, list) else value for value in (theirs, ours)]
                different.append(f"{words[2:]}: mock {said[0]}, ours {said[1]}")
            continue
        for wanted, mine in zip(map(_comparable, theirs), map(_comparable, ours), strict=True):
            keys = sorted(k for k in mine | wanted if mine.get(k) != wanted.get(k))
            if "--isolation" in words:  # which mock notes for itself, where no node would see it
                keys.remove("isolation")
            different += [f"{words[2:]}: {_unlike(wanted, mine, key)}" for key in keys]
    assert not different, "\n".join(different)
