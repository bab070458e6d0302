# SPDX-License-Identifier: GPL-2.0-or-later
"""What the chroot engine is told: rendered, portable, or refused by name."""

from __future__ import annotations

import configparser
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from mock_cloud.config.defaults import PLUGIN_NAMES, default_config_opts
from mock_cloud.config.repositories import KEY_PREFIX, add_repositories, make_portable
from mock_cloud.errors import CommandLineError, ConfigError, MockCloudError, UnsupportedByEngine
from mock_cloud.invocation.engines import PLUGINS as DECIDED
from mock_cloud.invocation.engines import chroot_engine
from mock_cloud.wire.decode import to_json
from mock_cloud.wire.job_request import JobRequest, parse_request
from tests.unit.config.secret_repository import SECRET_REPOSITORY

MAIN = "[main]\nreposdir=/dev/null\n"


def repositories(text: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(text)
    return parser


def test_keys_are_renamed_and_returned(etc: Any) -> None:
    config, portable = etc.render()
    assert [(key.name, key.role, key.path) for key in portable.keys] == [
        ("KEY-7", "gpgkey", etc.path / "keys/KEY-7"),
        ("KEY-old", "gpgkey", etc.path / "keys/KEY-old"),
    ]
    parsed = repositories(config.dnf_conf)
    assert parsed["base"]["gpgkey"].split() == [
        f"{KEY_PREFIX}KEY-7", f"{KEY_PREFIX}KEY-old", "https://h/KEY-web",
    ]  # fmt: skip
    assert parsed["base"]["baseurl"] == "http://h/$releasever/$basearch"
    assert "{{" not in config.dnf_conf


def test_a_missing_key_matters_when_its_repository_is_enabled(etc: Any) -> None:
    etc.render()
    with pytest.raises(ConfigError, match="/nowhere/KEY"):
        etc.render("--enablerepo=ex*", "--init")
    config, _ = etc.render("--enablerepo=extra", "--disablerepo=extra", "--init")
    assert config.repo_switches == [["--enablerepo", "extra"], ["--disablerepo", "extra"]]


def test_the_result_is_a_request_the_agent_parses(etc: Any) -> None:
    config, _ = etc.render()
    request = JobRequest(mode="init", config=config)
    assert parse_request(to_json(request)) == request


def test_command_line_reaches_the_engine(etc: Any, tmp_path: Path) -> None:
    macros = tmp_path / "macros"
    macros.write_text("%a b\n")
    config, _ = etc.render(
        "-D", "dist .x", "-D", "%y 1 2", "--with=foo-bar", "--without", "b", "--nocheck",
        "--rpmbuild_timeout=60", "--enable-network", "--target=noarch", "--uniqueext=u",
        "--short-circuit=build", "--rpmbuild-opts=--x", "--macro-file", str(macros),
        "--additional-package=gcc", "--postinstall", "--offline", "-N", "--arch=i686",
        "--resultdir=/somewhere", "--config-opts=dynamic_buildrequires_max_loops=3",
        "--config-opts=update_before_build=False", "--disable-plugin=hw_info", "x.src.rpm",
    )  # fmt: skip
    assert config.macros["%dist"] == ".x"
    assert config.macros["%y"] == "1 2"
    assert config.macros["%_with_foo_bar"] == "--with-foo-bar"
    assert config.macros["%_without_b"] == "--without-b"
    assert config.macros["%_platform_multiplier"] == "1"
    assert config.macros["%_topdir"] == "/builddir/build"
    assert config.macrofile_text == "%a b\n"
    assert (config.root, config.rpmbuild_arch) == ("small-7-i686-u", "noarch")
    assert (config.check, config.clean, config.online, config.post_install) == (
        False, False, False, True,
    )  # fmt: skip
    assert (config.rpmbuild_timeout, config.short_circuit, config.rpmbuild_opts) == (
        60, "build", "--x",
    )  # fmt: skip
    assert config.rpmbuild_networking
    assert config.use_host_resolv
    assert config.additional_packages == ["gcc"]
    assert (config.cleanup_on_success, config.cleanup_on_failure) == (False, False)
    assert config.dynamic_buildrequires_max_loops == 3
    assert not config.update_before_build
    assert not config.hw_info
    assert config.installed_pkgs


@pytest.mark.parametrize(
    ("argv", "cleanup"),
    [
        (["x"], False),  # the default resultdir lies in the chroot's directory
        (["--cleanup-after", "x"], False),
        (["--resultdir=/elsewhere", "x"], True),
        (["--resultdir=/elsewhere", "-N", "x"], False),
        (["--resultdir=/var/lib/mock/small-7-x86_64/r", "x"], False),
    ],
)
def test_cleanup_never_takes_the_results_along(etc: Any, argv: list[str], cleanup: bool) -> None:
    config, _ = etc.render(*argv)
    assert (config.cleanup_on_success, config.cleanup_on_failure) == (cleanup, cleanup)


@pytest.mark.parametrize(
    ("texts", "value"),
    [
        (["k=1"], 1),
        (["k=true"], True),
        (["k=None"], None),
        (["k=a=b"], "a=b"),
        (["k=a", "k=b"], ["a", "b"]),
        (["k=a", "k="], ["a"]),
        (["k=1", "k=2", "k=3"], [1, 2, 3]),
    ],
)
def test_config_opts_are_read_as_mock_reads_them(etc: Any, texts: list[str], value: object) -> None:
    argv = [word for text in texts for word in ("--config-opts", text)]
    assert etc.load(*argv, "--init")["k"] == value


def test_added_repositories_follow_the_others(etc: Any) -> None:
    config, _ = etc.render("-a", "http://h/r/", "-a", "http://h/r/", "--init")
    parsed = repositories(config.dnf_conf)
    assert parsed.sections() == ["main", "base", "extra", "h_r_", "h_r_1"]
    assert dict(parsed["h_r_1"]) | {"enabled": "1", "gpgcheck": "0"} == dict(parsed["h_r_1"])
    for bad in ("", "http://h/ a", "http://h/\n[x]"):
        with pytest.raises(ConfigError):
            add_repositories(MAIN, [bad])


@pytest.mark.parametrize("text", ["no section\n", "[main]\ngpgcheck=1\n", "[main]\nreposdir=\n"])
def test_a_dnf_conf_that_is_none_or_takes_the_machines_repositories(text: str) -> None:
    with pytest.raises(ConfigError):
        make_portable(text, {}, ())


def test_key_names_are_plain_and_distinct(tmp_path: Path) -> None:
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "KEY").write_text(place)
    (tmp_path / "a" / "-$odd, name").write_text("odd")
    text = (
        f"{MAIN}[r]\nbaseurl=http://h/\ngpgcheck=1\n"
        f"gpgkey = file://{tmp_path}/a/KEY, {tmp_path}/b/KEY file://{tmp_path}/a/-%24odd%2C%20name\n"
    )
    portable = make_portable(text, {}, ())
    assert [key.name for key in portable.keys] == ["KEY", "KEY.2", "key"]
    assert portable.text.splitlines()[-1] == (
        f"gpgkey = {KEY_PREFIX}KEY, {KEY_PREFIX}KEY.2 {KEY_PREFIX}key"
    )


def test_the_builder_is_never_root(etc: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for uid, sudo, expected in ((0, "", 1000), (0, "1234", 1234), (0, "0", 1000), (77, "", 77)):
        monkeypatch.setenv("SUDO_UID", sudo)
        assert etc.render(f"--config-opts=chrootuid={uid}", "--init")[0].chrootuid == expected


HONOURED, HARMLESS, REFUSED = (
    chroot_engine(DECIDED, word) for word in ("honoured", "harmless", "refused")
)


def test_every_plugin_was_decided() -> None:
    assert {*PLUGIN_NAMES, "remote"} == {*HONOURED, *HARMLESS, *REFUSED} == {*DECIDED}


_SOURCE_PACKAGE = ("--buildsrpm", "--spec=x", "--sources=y")
_WHERE_IT_WORKS = {"rpkg_preprocessor": _SOURCE_PACKAGE, "rpmautospec": _SOURCE_PACKAGE}


@pytest.mark.parametrize("name", [*REFUSED, "strange"])
def test_plugins_that_change_the_build_are_refused(etc: Any, name: str) -> None:
    etc.write("site-defaults.cfg", f"config_opts['plugin_conf']['{name}_enable'] = True\n")
    with pytest.raises(UnsupportedByEngine, match=name) as caught:
        etc.render(*_WHERE_IT_WORKS.get(name, ("--rebuild", "x")))
    assert f"--disable-plugin={name}" in str(caught.value.hint)


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless_plugins_are_not(etc: Any, name: str) -> None:
    etc.write("site-defaults.cfg", f"config_opts['plugin_conf']['{name}_enable'] = True\n")
    assert etc.render()[0].root == "small-7-x86_64"


@pytest.mark.parametrize(
    "line",
    [
        "['plugin_conf']['bind_mount_opts']['dirs'].append(('/a', '/b'))",
        "['plugin_conf']['mount_opts']['dirs'].append(('/dev/x', '/b', 'ext4', ''))",
        "['plugin_conf']['package_state_opts']['available_pkgs'] = True",
        "['hostname'] = 'h'",
        "['module_enable'] = ['perl']",
        "['rpm_command'] = '/opt/rpm'",
        "['dnf4_avoid_opts'] = {'builddep': ['--allowerasing']}",
        ".update(chroot_setup_cmd='groupinstall b', chroot_additional_packages='a')",
    ],
)
def test_settings_the_engine_lacks_are_refused_by_name(etc: Any, line: str) -> None:
    etc.write(".config/mock.cfg", f"config_opts{line}\n")
    with pytest.raises(UnsupportedByEngine, match="not supported by the chroot engine"):
        etc.render()


@pytest.mark.parametrize(
    "line",
    [
        "['package_manager'] = 'apt'",
        "['dnf.conf'] = ''",
        "['chroot_setup_cmd'] = 7",
        "['files'] = 'x'",
        "['files'] = {'a': ['b']}",
        "['rpmbuild_timeout'] = 'long'",
        "['rpmbuild_timeout'] = -1",
        "['clean'] = 'perhaps'",
        "['more_buildreqs'] = {'a': [1]}",
        "['root'] = '{% if %}'",
        "['root'] = '{{ root }}x'",
    ],
)
def test_wrong_values_are_configuration_errors(etc: Any, line: str) -> None:
    etc.write(".config/mock.cfg", f"config_opts{line}\n")
    with pytest.raises(MockCloudError) as caught:
        etc.render()
    assert caught.value.exit_code == 3


def test_extra_packages_follow_the_setup_command(etc: Any) -> None:
    etc.write(".config/mock.cfg", "config_opts['chroot_additional_packages'] = 'a b'\n")
    assert etc.render()[0].chroot_setup_cmd == ["install", "@build", "a", "b"]


def test_macro_file_mistakes(etc: Any, tmp_path: Path) -> None:
    path = tmp_path / "m"
    for content in (None, b"\xff\xfe", b"x" * (2 << 20)):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(CommandLineError, match="macro file"):
            etc.render(f"--macro-file={path}", "--init")


def test_plugins_of_the_command_line_must_exist(etc: Any) -> None:
    for option in ("--enable-plugin=x", "--disable-plugin=x", "--plugin-option=x:a=b"):
        with pytest.raises(CommandLineError, match="'x'"):
            etc.load(option, "--init")
    opts = etc.load("--plugin-option=tmpfs:required_ram_mb=1", "--plugin-option=tmpfs:a=b", "-p")
    assert opts["plugin_conf"]["tmpfs_opts"]["required_ram_mb"] == 1
    assert opts["plugin_conf"]["tmpfs_opts"]["a"] == "b"


def test_proxies_of_the_configuration_reach_the_build(etc: Any) -> None:
    etc.write(".config/mock.cfg", "config_opts['http_proxy'] = 'http://p:1'\n")
    environment = etc.render()[0].environment
    assert environment["http_proxy"] == "http://p:1"
    assert environment["HOME"] == "/builddir"
    assert environment["LANG"] == default_config_opts()["environment"]["LANG"]


def test_no_secret_of_a_repository_is_in_what_a_node_is_told(etc: Any) -> None:
    base = (etc.path / "small.cfg").read_text()
    etc.write("small.cfg", base + SECRET_REPOSITORY)
    config, portable = etc.render()
    assert "correct-horse" not in str(asdict(config)) and "[l]" in config.dnf_conf
    (access,) = portable.accesses.found.values()
    assert str(access.find_proxy("https://l/")) == "p:1"
    etc.write(
        "small.cfg", base + SECRET_REPOSITORY + "config_opts['macros']['%x'] = 'correct-horse'"
    )
    with pytest.raises(ConfigError, match="macros has a repository's password"):
        etc.render()
