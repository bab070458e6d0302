# SPDX-License-Identifier: GPL-2.0-or-later
"""mock's .cfg files: order, includes, templates, and mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mock_cloud.config.chroots import load_config_opts
from mock_cloud.config.defaults import default_config_opts
from mock_cloud.config.paths import locate_paths
from mock_cloud.errors import ConfigError, MockCloudError
from mock_cloud.invocation.parser import parse_command_line
from mock_cloud.launcher.dispatch import choose_remote, debug_config, list_chroots, root_path
from mock_cloud.steps.check.chosen_engine import ArchitectureError, choose_arch


def test_files_are_read_in_mocks_order(etc: Any) -> None:
    for name in ("site-defaults.cfg", "chroot-aliases.cfg", ".mock/user.cfg", ".config/mock.cfg"):
        etc.write(name, f"config_opts['seen'] = config_opts.get('seen', '') + '{name} '\n")
    etc.write("small.cfg", "config_opts['seen'] += 'chroot '\nconfig_opts['root'] = 'r'\n")
    assert load_config_opts("small", etc.path, home=etc.home)["seen"].split() == [
        "site-defaults.cfg", "chroot-aliases.cfg", "chroot", ".mock/user.cfg", ".config/mock.cfg",
    ]  # fmt: skip


def test_a_name_is_found_at_home_first_and_a_path_anywhere(etc: Any, tmp_path: Path) -> None:
    path = tmp_path / "own.cfg"
    path.write_text("config_opts['who'] = 'path {{ chroot_name }}'\n")
    opts = load_config_opts(str(path), etc.path, home=etc.home)
    assert (opts["who"], opts["config_file"]) == ("path own", str(path))
    etc.write(".config/mock/small.cfg", "config_opts['who'] = 'home {{ chroot_name }}'\n")
    assert load_config_opts("small", etc.path, home=etc.home)["who"] == "home small"


def test_templates_are_expanded_on_access(etc: Any) -> None:
    opts = etc.load()
    assert opts["root"] == "small-7-x86_64"
    assert "Mock (small-7-x86_64; x86_64)" in opts["dnf.conf"]
    assert opts["yum.conf"] == opts["dnf5.conf"] == opts["dnf.conf"]


def test_aliases_stand_for_one_value() -> None:
    opts = default_config_opts()
    opts["dnf_common_opts"] += ["--x"]
    assert opts["dnf4_common_opts"][-1] == "--x"
    opts["yum.conf"] = "y"
    assert opts["dnf.conf"] == "y"
    assert default_config_opts()["dnf4_common_opts"][-1] != "--x"


def test_includes_are_textual_nested_and_skipped_the_second_time(etc: Any) -> None:
    etc.write("one.tpl", "config_opts['n'] = config_opts.get('n', 0) + 1\ninclude('two.tpl')\n")
    etc.write("two.tpl", "config_opts['two'] = os.path.join('a', 'b')\n")
    etc.write("small.cfg", "include('one.tpl')\n# include('none')\n  include('one.tpl')\n")
    opts = load_config_opts("small", etc.path, home=etc.home)
    assert (opts["n"], opts["two"]) == (1, "a/b")
    assert {Path(path).name for path in opts["config_paths"]} == {"small.cfg", "one.tpl", "two.tpl"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("include('none.tpl')", "none.tpl"),
        ("include(nothing)", "nothing"),
        ("include(7)", "does not name a file"),
        ("raise ValueError('odd')", "odd"),
        ("import sys; sys.exit(3)", "SystemExit"),
        ("config_opts['a'", "SyntaxError"),
        ("config_opts['macros']['a b'] = 'x'", "macro"),
        ("config_opts['macros']['%a'] = ''", "macro"),
    ],
)
def test_mistakes_are_reported_with_the_file(etc: Any, text: str, words: str) -> None:
    etc.write("small.cfg", text + "\n")
    with pytest.raises(MockCloudError, match=words) as caught:
        load_config_opts("small", etc.path, home=etc.home)
    assert caught.value.exit_code in (3, 5)


def test_include_cycles_end(etc: Any) -> None:
    etc.write("a.tpl", "include('b.tpl')\nconfig_opts['a'] = 1\n")
    etc.write("b.tpl", "include('a.tpl')\nconfig_opts['b'] = 1\n")
    etc.write("small.cfg", "include('a.tpl')\n")
    opts = load_config_opts("small", etc.path, home=etc.home)
    assert (opts["a"], opts["b"]) == (1, 1)


def test_macro_names_get_their_percent_sign(etc: Any) -> None:
    etc.write("small.cfg", "config_opts['macros']['dist'] = '.x'\n")
    assert load_config_opts("small", etc.path, home=etc.home)["macros"]["%dist"] == ".x"


@pytest.mark.parametrize(
    ("name", "hint"),
    [("default", "-r"), ("./a", ".cfg"), ("none", "--list-chroots"), ("epel-8-x86_64", "alma")],
)
def test_a_missing_configuration_says_what_to_do(etc: Any, name: str, hint: str) -> None:
    etc.write(
        "chroot-aliases.cfg",
        "config_opts['no-config']['epel-8'] = {'alternatives': {'alma+epel-8': {}, 'x-8': {}}}\n",
    )
    etc.write("alma+epel-8-x86_64.cfg", "")
    with pytest.raises(ConfigError) as caught:
        load_config_opts(name, etc.path, home=etc.home)
    assert hint in str(caught.value.hint)


def test_paths_with_unique_extension_and_result_directory(etc: Any) -> None:
    paths = locate_paths(etc.load("--uniqueext=me", "--init"))
    assert paths.root == "small-7-x86_64-me"
    assert paths.rootdir == Path("/var/lib/mock/small-7-x86_64-me/root")
    assert paths.resultdir == Path("/var/lib/mock/small-7-x86_64-me/result")
    assert root_path(etc.load()) == "/var/lib/mock/small-7-x86_64/root/"
    with_templates = etc.load("--resultdir=/r/{{root}}/%(releasever)s", "--init")
    assert locate_paths(with_templates).resultdir == Path("/r/small-7-x86_64/7")


@pytest.mark.parametrize("root", ["", "..", "a/b", "a\nb"])
def test_a_root_must_be_a_name(etc: Any, root: str) -> None:
    opts = etc.load()
    opts["root"] = root
    with pytest.raises(ConfigError, match="root"):
        locate_paths(opts)


@pytest.mark.parametrize(
    ("said", "argv", "environ", "chosen"),
    [
        ({}, [], {}, None),
        ({"site": "s"}, [], {}, "s"),
        ({"site": "s", "user": "u"}, [], {}, "u"),
        ({"site": "s", "user": "u", "chroot": "c"}, [], {}, "c"),
        ({"site": "s", "chroot": None}, [], {}, None),
        ({"chroot": "c"}, [], {"MOCK_REMOTE": "e"}, "e"),
        ({"chroot": "c"}, ["--remote=l"], {"MOCK_REMOTE": "e"}, "l"),
        ({"chroot": "c"}, ["--no-remote"], {"MOCK_REMOTE": "e"}, None),
    ],
)
def test_who_chooses_the_remote(
    etc: Any, said: dict[str, str | None], argv: list[str], environ: dict[str, str],
    chosen: str | None,
) -> None:  # fmt: skip
    files = {"site": "site-defaults.cfg", "user": ".config/mock.cfg", "chroot": "small.cfg"}
    for who, name in said.items():
        etc.write(files[who], f"config_opts['root'] = 'r'\nconfig_opts['remote'] = {name!r}\n")
    line = parse_command_line([*argv, "--init"], environ)
    opts = load_config_opts("small", etc.path, home=etc.home)
    assert choose_remote(line, opts) == chosen


def test_a_remote_that_is_no_name_is_refused(etc: Any) -> None:
    opts = etc.load()
    opts["remote"] = ["a"]
    with pytest.raises(ConfigError, match="remote"):
        choose_remote(parse_command_line(["--init"], {}), opts)


def test_node_architecture(etc: Any) -> None:
    opts = etc.load()
    assert choose_arch(opts, ("aarch64", "x86_64")) == "x86_64"
    with pytest.raises(ArchitectureError) as caught:
        choose_arch(opts, ("aarch64",))
    assert caught.value.exit_code == 6


def test_debug_config_prints_the_differences(etc: Any) -> None:
    raw = debug_config(etc.load(), expanded=False)
    assert "config_opts['root'] = 'small-{{ releasever }}-{{ target_arch }}'" in raw
    assert "config_opts['root'] = 'small-7-x86_64'" in debug_config(etc.load(), expanded=True)
    assert "'basedir'" not in raw


def test_list_of_chroots(etc: Any) -> None:
    etc.write("small.cfg", "config_opts['description'] = 'Small \x1b[2J'\n")
    etc.write("broken.cfg", "raise ValueError\n")
    etc.write(".config/mock/own.cfg", "config_opts['description'] = 'Mine'\n")
    shown = list_chroots(etc.path, etc.home)
    assert "error during parsing" in shown.split("broken")[1].splitlines()[0]
    assert "\x1b" not in shown
    assert shown.index("Custom configs:") < shown.index("Mine")
