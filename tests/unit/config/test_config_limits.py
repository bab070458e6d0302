# SPDX-License-Identifier: GPL-2.0-or-later
"""Settings with the chroot engine: each is honoured, refused where it is needed, or harmless."""

from __future__ import annotations

from typing import Any

import pytest

from mock_cloud.config.chroots import load_config_opts
from mock_cloud.config.defaults import default_config_opts
from mock_cloud.config.engine import engine_config, shell_is_unprivileged
from mock_cloud.config.overrides import apply_command_line
from mock_cloud.config.paths import locate_paths
from mock_cloud.config.stages import is_needless
from mock_cloud.errors import UnsupportedByEngine
from mock_cloud.invocation.engines import SETTINGS, chroot_engine
from mock_cloud.invocation.parser import parse_command_line

HONOURED, HARMLESS, REFUSED, FIXED, JUDGED, SAID = (
    chroot_engine(SETTINGS, word)
    for word in ("honoured", "harmless", "refused", "fixed", "judged", "said")
)


def test_every_setting_of_mock_was_decided() -> None:
    known = {name for name in default_config_opts() if not name.startswith("_")}
    decided = {*HONOURED, *HARMLESS, *REFUSED, *FIXED, *JUDGED, *SAID}
    assert known - decided == set()
    assert decided - known <= {"chrootgid", "dnf.conf", "print_main_output"}  # no defaults
    assert decided == {name for name, row in SETTINGS.items() if row[0]}


_VALUES = {
    "chroot_setup_cmd": "install something", "package_manager": "dnf5", "chrootuid": 4321,
    "rpmbuild_arch": "noarch", "target_arch": "i686", "releasever": "9", "chrootgid": 4321,
    "environment": {"A": "b"}, "macros": {"%a": "b"}, "files": {"/a": "b"}, "dnf_vars": {"a": "b"},
    "more_buildreqs": {"a": "b"}, "repo_arch_map": {"x86_64": "other"},
    "print_main_output": True, "resultdir": "/elsewhere", "rootdir": "/other/root",
}  # fmt: skip


def test_an_honoured_setting_changes_what_is_done(etc: Any) -> None:
    etc.write("keys/KEY-9", "nine")
    small = (etc.path / "small.cfg").read_text()
    before: dict[str, Any] = {}
    unchanged = []
    for name in sorted(HONOURED):
        base = small
        if name.startswith("dnf5"):
            base += "config_opts['package_manager'] = 'dnf5'\n"
        if name.startswith("cleanup_on"):
            base += "config_opts['resultdir'] = '/elsewhere'\n"
        if name == "repo_arch_map":
            base += "config_opts['repo_arch'] = None\n"
        if base not in before:
            etc.write("small.cfg", base)
            before[base] = done(etc)
        etc.write("small.cfg", f"{base}config_opts[{name!r}] = {_another(name)!r}\n")
        if done(etc) == before[base]:
            unchanged.append(name)
    assert unchanged == []


def done(etc: Any) -> Any:
    """All that `config_opts` decide of an engine's work: what is sent, where it goes, who runs."""
    etc.write("templates/more.tpl", "config_opts['dnf.conf'] += '# {{ repo_arch }}'\n")
    line = parse_command_line(["-r", "used", "--shell"], {})
    etc.write("used.cfg", (etc.path / "small.cfg").read_text() + "include('templates/more.tpl')\n")
    opts = load_config_opts("used", etc.path, home=etc.home)
    apply_command_line(opts, line)
    config, _ = engine_config(opts, line)
    return config, locate_paths(opts), shell_is_unprivileged(opts, line)


def _another(name: str) -> Any:
    default = default_config_opts().get(name, 135)
    if name in _VALUES:
        return _VALUES[name]
    if isinstance(default, (bool, int)):
        return not default if isinstance(default, bool) else default + 7
    return ["other"] if isinstance(default, list) else "/other"


@pytest.mark.parametrize("name", FIXED)
def test_a_setting_that_has_one_value_only_is_refused_with_another(etc: Any, name: str) -> None:
    etc.write(".config/mock.cfg", f"config_opts[{name!r}] = 'other'\n")
    with pytest.raises(UnsupportedByEngine, match=name):
        etc.render("--chain", "x")


@pytest.mark.parametrize("name", REFUSED)
def test_a_setting_that_is_refused_is_refused_where_a_command_needs_it(etc: Any, name: str) -> None:
    etc.write(".config/mock.cfg", f"config_opts[{name!r}] = ['x']\n")
    with pytest.raises(UnsupportedByEngine, match=name):
        etc.render("x")


def test_what_removes_the_chroot_needs_none_of_them(etc: Any) -> None:
    names = [*FIXED, *REFUSED]
    others = "".join(f"config_opts[{n!r}] = ['x']\n" for n in names if n != "backup_on_clean")
    etc.write(".config/mock.cfg", others)
    assert etc.render("--clean")
    etc.write(".config/mock.cfg", "config_opts['backup_on_clean'] = True\n")
    assert etc.render("--shell")


def test_harmless_settings_have_reasons_and_no_effect(etc: Any) -> None:
    assert all(HARMLESS.values())
    before = etc.render("x")
    read_by_the_loader = ("plugins", "buildroot_image", "config_paths", "scm_opts")
    names = [name for name in HARMLESS if name not in read_by_the_loader]
    lines = [f"config_opts[{name!r}] = ['x']\n" for name in names]
    etc.write(".config/mock.cfg", "".join(lines))
    assert etc.render("x") == before


@pytest.mark.parametrize(
    ("text", "argv", "refused"),
    [
        ("['forcearch'] = 'x86_64'", (), False),
        ("['forcearch'] = 'aarch64'", (), True),
        ("['forcearch'] = 'aarch64'", ("--clean",), False),
        ("['external_buildrequires'] = True", ("x",), False),
        ("['nspawn_args'] = ['--bind=/srv']", ("x",), True),
        ("['nspawn_args'] = ['--bind=/srv']", ("--isolation=simple", "x"), False),
        ("['nspawn_args'] = []", ("x",), False),
        ("['nspawn_args'] = ['--bind=/srv']", ("--old-chroot", "x"), False),
        ("['nspawn_args'] = ['--bind=/srv']", ("--old-chroot", "--new-chroot", "x"), True),
        ("['nspawn_args'] = ['--bind=/srv']", ("--clean",), False),
        ("['nspawn_args'] += ['--bind=/dev/loop-control', '--bind=/dev/loop11']", ("x",), False),
        ("['nspawn_args'] += ['--bind=/dev/loop1/../sda']", ("x",), True),
        ("['isolation'] = 'nspawn'", ("x",), False),
        ("['use_nspawn'] = True", ("x",), False),
        ("['use_nspawn'] = True", ("--isolation=simple", "x"), False),
        ("['use_nspawn'] = False", ("x",), False),
        ("['dev_loop_count'] = 4", ("x",), False),
        ("['dev_loop_count'] = 40", ("x",), True),
        ("['ssl_copied_ca_trust_dirs'] = None", ("x",), False),
        ("['ssl_copied_ca_trust_dirs'] = [('/srv/ca', '/etc/pki/ca')]", ("x",), True),
        (
            "['plugin_conf'].update(tmpfs_enable=True, tmpfs_opts={'keep_mounted': True})",
            ("--shell",),
            False,
        ),
        ("['plugin_conf']['bind_mount_opts']['dirs'] = [('/srv', '/srv')]", ("--shell",), True),
        ("['plugin_conf']['rpmautospec_enable'] = True", ("x",), False),
        ("['plugin_conf']['rpmautospec_enable'] = True", ("--spec=a", "--sources=b", "x"), True),
        ("['plugin_conf']['chroot_scan_enable'] = True", ("--init",), True),
        ("['plugin_conf']['sign_enable'] = True", ("--install", "x"), False),
        ("['plugin_conf']['pm_request_enable'] = True", ("--shell",), True),
        ("['plugin_conf']['pm_request_enable'] = True", ("--copyin", "a", "b"), False),
    ],
)
def test_what_a_command_needs_is_refused_not_what_a_configuration_mentions(
    etc: Any, text: str, argv: tuple[str, ...], refused: bool
) -> None:
    etc.write(".config/mock.cfg", f"config_opts{text}\n")
    if not refused:
        assert etc.render(*argv)
        return
    said = r"not supported by the chroot engine|nspawn_args"
    with pytest.raises(UnsupportedByEngine, match=said):
        etc.render(*argv)


@pytest.mark.parametrize("name", ["yum.conf", "dnf4.conf", "dnf5.conf"])
def test_the_other_names_of_dnf_conf(etc: Any, name: str) -> None:
    before = etc.render("x")
    template = (etc.path / "templates/small.tpl").read_text()
    etc.write("templates/small.tpl", template.replace("['dnf.conf']", f"[{name!r}]"))
    assert etc.render("x") == before


@pytest.mark.parametrize(("asked", "times"), [("", "1"), ("--forcearch=x86_64", "10")])
def test_the_macro_for_slow_machines_is_mocks(etc: Any, asked: str, times: str) -> None:
    config, _ = etc.render(*filter(None, [asked]), "--init")
    assert config.macros["%_platform_multiplier"] == times


@pytest.mark.parametrize(
    ("argv", "plugin", "says"),
    [
        (("--umount",), "", True), (("--mount",), "", True), (("--umount",), "overlayfs", True),
        (("--mount",), "overlayfs", None), (("--mount",), "lvm_root", None),
        (("--init",), "", False),
    ],
)  # fmt: skip
def test_nothing_stays_mounted_on_a_node(
    etc: Any, argv: tuple[str, ...], plugin: str, says: bool | None
) -> None:
    words = [*argv, *([f"--enable-plugin={plugin}"] if plugin else [])]
    opts, line = etc.load(*words), parse_command_line(words, {})
    if says is None:
        with pytest.raises(UnsupportedByEngine, match=f"--mount with the plugin {plugin!r}"):
            is_needless(opts, line)
    else:
        assert is_needless(opts, line) is says
