# SPDX-License-Identifier: GPL-2.0-or-later
"""What a mock on a node is told of this machine's configuration."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jinja2
import pytest

from mock_cloud.config.chroots import load_config_opts
from mock_cloud.config.defaults import PLUGIN_CONF, PLUGIN_NAMES, default_config_opts
from mock_cloud.config.mock_engine import MockConfig, mock_config
from mock_cloud.config.overrides import apply_command_line
from mock_cloud.config.tunnel import read_sources
from mock_cloud.errors import CommandLineError, MockCloudError, UnsupportedByEngine
from mock_cloud.invocation.carrying import Carrier
from mock_cloud.invocation.engines import PLUGIN_OPTIONS, SETTINGS
from mock_cloud.invocation.engines import PLUGINS as DECIDED
from mock_cloud.invocation.parser import parse_command_line
from mock_cloud.wire.job_request import JOB_DIRECTORY
from tests.unit.config.secret_repository import SECRET_REPOSITORY

INPUTS = f"{JOB_DIRECTORY}/inputs"
DOCUMENT = Path(__file__).parents[3] / "docs/mock-engine.md"
WORDS = ("sent", "left", "said", "carried", "refused")


@pytest.fixture
def portable(etc: Any) -> Any:
    """Renders the small configuration with lines added; carrier of the last one in `carrier`."""

    class Portable:
        carrier = Carrier()

        def config(self, text: str, *argv: str, code_travels: bool = True) -> MockConfig:
            etc.write("small.cfg", (etc.path / "small.cfg").read_text() + text)
            self.carrier = Carrier()
            line = parse_command_line(["-r", "small", *(argv or ["--init"])], {})
            return mock_config(etc.load(*argv), line, self.carrier, code_travels=code_travels)

        def __call__(self, text: str = "", *argv: str, **given: bool) -> dict[str, Any]:
            found: dict[str, Any] = json.loads(self.config(text, *argv, **given).to_json())
            return found

        def carried(self) -> list[tuple[str, str, Path]]:
            return [(one.role, one.name, one.path) for one in self.carrier.files.values()]

    return Portable()


def test_every_option_of_mock_was_decided() -> None:
    """A key that a later mock brings fails here before it is passed on."""
    for name in default_config_opts():
        if not name.startswith("_"):
            assert SETTINGS[name][1].partition(": ")[0] in WORDS, name
    assert {row[1].partition(": ")[0] for row in SETTINGS.values()} == set(WORDS)


def test_every_plugin_and_each_of_its_options_was_decided_once() -> None:
    for name in PLUGIN_NAMES:
        word, _, options = DECIDED[name][1].partition(": ")
        assert word in ("sent", "refused"), name
        for option in PLUGIN_CONF[f"{name}_opts"] if word == "sent" else ():
            sent = option in options.split(", ")
            assert [sent, (name, option) in PLUGIN_OPTIONS].count(True) == 1, (name, option)


def test_the_document_has_every_decision() -> None:
    rows = dict(re.findall(r"^\| `([^`]+)` \| (.*) \|$", DOCUMENT.read_text(), re.MULTILINE))
    expected = {name: row[1] for name, row in SETTINGS.items()}
    for plugin, row in DECIDED.items():
        if row[1] != "left":
            expected[f"plugin {plugin}"] = row[1].replace("sent: ", "sent, ")
    for (plugin, option), why in PLUGIN_OPTIONS.items():
        expected[f"plugin {plugin}: {option}"] = why
    assert rows == expected


def test_what_differs_travels_with_its_templates(portable: Any) -> None:
    found = portable()
    assert found["root"] == "small-{{ releasever }}-{{ target_arch }}"
    assert found["releasever"] == "7" and found["legal_host_arches"] == ["x86_64"]
    assert found["package_manager"] == "dnf4"
    here = {"config_path", "config_file", "config_paths", "chrootuid", "host_arch", "plugin_dir"}
    assert not here & found.keys()
    assert "check" not in found and "rpmbuild_timeout" not in found
    assert portable("config_opts['check'] = False\n")["check"] is False


def test_the_command_line_is_folded_in(portable: Any) -> None:
    found = portable(
        "", "-D", "dist .x", "--rpmbuild_timeout=7", "--enable-plugin=tmpfs", "--postinstall",
        "--plugin-option=tmpfs:max_fs_size=1g", "--uniqueext=u", "--offline", "x.src.rpm",
    )  # fmt: skip
    assert found["macros"]["%dist"] == ".x" and found["rpmbuild_timeout"] == 7
    assert found["post_install"] is True
    assert found["plugin_conf"]["tmpfs_opts"]["max_fs_size"] == "1g"
    assert found["root"] == "small-7-x86_64" and found["unique-ext"] == "u"
    assert "online" not in found  # mock takes that from its own command line


def test_the_chroots_name_has_the_unique_extension(portable: Any) -> None:
    config = portable.config("", "--uniqueext=u", "--init")
    assert (config.root, config.chroot_name) == ("small-7-x86_64-u", "small")


def test_dnf_conf_is_expanded_and_its_keys_go_along(portable: Any, etc: Any) -> None:
    config = portable.config("")
    found = json.loads(config.to_json())
    places = [f"{INPUTS}/gpgkey/KEY-7", f"{INPUTS}/gpgkey/KEY-old"]
    assert all(f"file://{place}" in found["dnf.conf"] for place in places)
    assert "{{" not in found["dnf.conf"] and "https://h/KEY-web" in found["dnf.conf"]
    assert [key.path for key in config.repositories.keys] == [
        etc.path / "keys/KEY-7",
        etc.path / "keys/KEY-old",
    ]
    # In the bootstrap chroot dnf finds them at the same path.
    assert found["ssl_extra_certs"] == [places[0], places[0], places[1], places[1]]


def test_repositories_are_led_elsewhere_in_every_text(portable: Any) -> None:
    config = portable.config("config_opts['dnf.conf'] += '[l]\\nbaseurl=file:///srv/repo\\n'\n")
    (own,) = [one for one in read_sources(config.repositories.of_chroot({})) if one.id == "l"]
    assert own.baseurls == ("file:///srv/repo",)
    text = config.to_json(lambda text: text.replace("file:///srv/repo", "http://way/"), {"A": "b"})
    found = json.loads(text)
    assert "http://way/" in found["dnf.conf"] and "/srv/repo" not in text
    assert found["environment"] == {"A": "b"}


def test_a_bootstrap_chroot_of_another_arch_has_its_own_repositories(portable: Any) -> None:
    found = portable(
        "config_opts['target_arch'] = 'i686'\n"
        "config_opts['repo_arch_map'] = {'i686': 'i386'}\n"
        "config_opts['dnf.conf'] = config_opts['dnf.conf'].replace('http://h/extra',"
        " 'http://h/{{ repo_arch }}')\n"
    )
    template = jinja2.Template(found["dnf.conf"])
    for arch, url in (("i386", "http://h/i386\n"), ("x86_64", "http://h/x86_64\n")):
        assert url in template.render(repo_arch=arch)
    assert template.render(repo_arch="other") == template.render(repo_arch="i386")


def test_files_that_are_named_go_along(portable: Any, tmp_path: Path) -> None:
    macros, cert, image = tmp_path / "a/my macros", tmp_path / "b/cert", tmp_path / "c/image.tar"
    for path in (macros, cert, image):
        path.parent.mkdir()
        path.write_text("text")
    found = portable(
        f"config_opts['macrofile'] = '{macros}'\n"
        f"config_opts['ssl_extra_certs'] = ['{cert}', '/etc/c', '/nowhere', '/etc/d']\n"
        f"config_opts['bootstrap_image'] = 'oci-archive:{image}'\n",
        f"--buildroot-image={image}", "x.src.rpm",
    )  # fmt: skip
    assert found["macrofile"] == f"{INPUTS}/file/my_macros"
    assert found["ssl_extra_certs"][:2] == [f"{INPUTS}/file/cert", "/etc/c"]
    assert "/etc/d" not in found["ssl_extra_certs"]
    assert found["bootstrap_image"] == found["buildroot_image"]
    assert found["buildroot_image"] == f"oci-archive:{INPUTS}/file/image.tar"
    assert ("file", "image.tar", image) in portable.carried()


def test_bound_directories_go_along(portable: Any, tmp_path: Path) -> None:
    places = [tmp_path / "a/data", tmp_path / "b/data"]
    for place in places:
        place.mkdir(parents=True)
        (place / "x").write_text("x")
    dirs = [(str(places[0]), "/data"), (str(places[1]), "/more"), (str(places[0] / "x"), "/x")]
    config = portable.config(f"config_opts['plugin_conf']['bind_mount_opts']['dirs'] = {dirs}\n")
    assert json.loads(config.to_json())["plugin_conf"]["bind_mount_opts"]["dirs"] == [
        [f"{INPUTS}/tree/data", "/data"], [f"{INPUTS}/tree/2.data", "/more"],
        [f"{INPUTS}/file/x", "/x"],
    ]  # fmt: skip
    assert any("written to /x stays on the node" in text for text in config.warnings)


def test_a_chroot_that_is_kept_mounted_is_on_the_disk(portable: Any) -> None:
    text = "config_opts['plugin_conf']['tmpfs_enable'] = True\n"
    assert json.loads(portable.config(text).to_json())["plugin_conf"]["tmpfs_enable"] is True
    text += "config_opts['plugin_conf']['tmpfs_opts']['keep_mounted'] = True\n"
    config = portable.config(text)
    assert json.loads(config.to_json())["plugin_conf"]["tmpfs_enable"] is False
    assert any("tmpfs" in warning for warning in config.warnings)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("config_opts['redhat_subscription_required'] = True", "not subscribed"),
        ("config_opts['backup_on_clean'] = True", "backup_on_clean"),
        ("config_opts['createrepo_on_rpms'] = True", "createrepo_on_rpms"),
        ("config_opts['copy_host_users'] = ['me']", "copy_host_users"),
        ("config_opts['nspawn_args'] += ['--bind=/srv']", "--bind=/srv"),
        ("config_opts['bootstrap_nspawn_args'] = ['--overlay=/a:/b']", "--overlay=/a:/b"),
        ("config_opts['nspawn_args'] += ['--bind=/dev/kvm']", "--bind=/dev/kvm"),
        ("config_opts['nspawn_args'] = '--bind=/srv'", "nspawn_args"),
        ("config_opts['bootstrap_dnf.conf'] = '[main]'", "bootstrap_dnf.conf"),
        ("config_opts['plugin_conf']['sign_enable'] = True", "'sign'"),
        ("config_opts['plugin_conf']['lvm_root_enable'] = True", "'lvm_root'"),
        ("config_opts['plugin_conf']['bind_mount_opts']['dirs'] = [('/dev/null', '/x')]",
         "/dev/null"),
        ("config_opts['plugin_conf']['bind_mount_opts']['dirs'] = [('/no/where', '/x')]",
         "/no/where"),
        ("config_opts['plugin_conf']['mount_opts']['dirs'] = [('/dev/sda', '/x', 'ext4', '')]",
         "/dev/sda"),
        ("config_opts['macrofile'] = '/no/macros'", "/no/macros"),
        ("config_opts['bootstrap_image'] = 'dir:/no/image'", "/no/image"),
        ("config_opts['dnf.conf'] += '[l]\\nbaseurl=http://l\\nusername=me\\npassword=sesame\\n'\n"
         "config_opts['macros']['%x'] = 'sesame'", "password"),
        ("config_opts['plugin_conf']['site_enable'] = True\n"
         "config_opts['plugin_conf']['site_opts'] = {'key': ['/etc/passwd']}", "/etc/passwd"),
        ("config_opts['thing'] = object()", "thing"),
    ],
)  # fmt: skip
def test_what_only_this_machine_has_is_refused_by_name(
    portable: Any, text: str, named: str
) -> None:
    with pytest.raises(MockCloudError) as refused:
        portable(text + "\n", "--rebuild", "x")
    assert named in refused.value.message
    assert "sesame" not in f"{refused.value.message}{refused.value.hint}"


def test_private_keys_never_go_along(portable: Any, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    key = tmp_path / "d/client.pem"
    key.write_text("-----BEGIN RSA PRIVATE KEY-----\n")
    for text in (
        f"config_opts['ssl_extra_certs'] = ['{key}', '/etc/c']\n",
        f"config_opts['plugin_conf']['bind_mount_opts']['dirs'] = [('{key.parent}', '/d')]\n",
    ):
        with pytest.raises(UnsupportedByEngine, match=r"client\.pem is a private key"):
            portable(text)


def test_a_directory_has_a_largest_size(portable: Any, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    with (tmp_path / "d/large").open("wb") as stream:
        stream.truncate((256 << 20) + 1)
    dirs = f"[('{tmp_path}/d', '/d')]"
    with pytest.raises(UnsupportedByEngine, match="larger than 256 MiB"):
        portable(f"config_opts['plugin_conf']['bind_mount_opts']['dirs'] = {dirs}\n")


def test_a_sites_plugin_runs_where_its_code_is(portable: Any) -> None:
    text = (
        "config_opts['plugin_conf']['site_enable'] = True\n"
        "config_opts['plugin_conf']['site_opts'] = {'program': '/usr/bin/env', 'n': 1}\n"
    )
    assert portable(text)["plugin_conf"]["site_opts"] == {"program": "/usr/bin/env", "n": 1}
    with pytest.raises(UnsupportedByEngine, match="'site'"):
        portable("", code_travels=False)


def test_plugins_that_are_off_keep_their_options_here(portable: Any) -> None:
    found = portable("config_opts['plugin_conf']['sign_opts']['cmd'] = 'secret'\n")
    assert found["plugin_conf"]["sign_enable"] is False
    assert "sign_opts" not in found["plugin_conf"] and "remote_enable" not in found["plugin_conf"]


def test_proxies_of_the_environment_stay_here(
    portable: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://mine:3128")
    found = portable(
        "config_opts['environment']['http_proxy'] = 'http://mine:3128'\n"
        "config_opts['https_proxy'] = config_opts['environment']['https_proxy'] = 'http://yours'\n"
    )
    assert "http_proxy" not in found["environment"]
    assert found["environment"]["https_proxy"] == found["https_proxy"] == "http://yours"


def test_a_mock_of_another_version_is_told_everything(portable: Any) -> None:
    """Its defaults may be others than those that we know."""
    found = portable("config_opts['version'] = '99'\n")
    assert found["check"] is True and found["rpmbuild_timeout"] == 0


@pytest.mark.parametrize("version", ["", "config_opts['version'] = '99'\n"])
def test_only_another_rootdir_is_worth_a_warning(portable: Any, version: str) -> None:
    expanded = "config_opts['rootdir'] = '/var/lib/mock/{{ root }}/root'\n"
    for usual in ("", expanded):
        assert portable.config(version + usual).warnings == ()
    (warning,) = portable.config(
        f"{version}config_opts['rootdir'] = '/srv/{{{{ root }}}}'\n"
    ).warnings
    assert warning.endswith("nothing is put into /srv/small-7-x86_64")


HERMETIC = """\
config_opts['root'] = 'hermetic-build'
config_opts['dnf.conf'] = '[main]\\nreposdir=/dev/null\\n[o]\\n' \\
    'baseurl=file://{{ offline_local_repository }}\\n'
"""


def test_a_hermetic_builds_repository_goes_along(etc: Any, tmp_path: Path) -> None:
    repository, lock = tmp_path / "repo", tmp_path / "lock.json"
    (repository / "repodata").mkdir(parents=True)
    told = {
        "bootstrap_image_ready": True, "bootstrap_image": "fedora:41", "target_arch": "x86_64",
        "macros": {"%dist": ".x"},
    }  # fmt: skip
    lock.write_text(json.dumps({"config": told}))
    etc.write("hermetic-build.cfg", HERMETIC)
    line = parse_command_line(["--hermetic-build", str(lock), str(repository), "x.src.rpm"], {})
    opts = load_config_opts(line.config_name, etc.path, home=etc.home)
    apply_command_line(opts, line)
    # As mock leaves it that hands its own options over.
    opts["bootstrap_image"] = f"dir:{repository}/fedora@sha256:0"
    opts["plugin_conf"]["bind_mount_opts"]["dirs"].append((str(repository), "/hermetic_repo"))
    carrier = Carrier()
    found = json.loads(mock_config(opts, line, carrier, code_travels=True).to_json())
    assert found["target_arch"] == "x86_64" and found["macros"] == {"%dist": ".x"}
    assert found["offline_local_repository"] == f"{INPUTS}/tree/repo"
    assert f"baseurl=file://{INPUTS}/tree/repo" in found["dnf.conf"]
    assert found["plugin_conf"]["bind_mount_opts"]["dirs"] == []
    assert [file.role for file in carrier.files.values()] == ["tree"]


@pytest.mark.parametrize(
    ("lock", "says"),
    [
        ("", "not a lock file"),
        ("[]", "not a lock file"),
        ('{"config": {}}', "bootstrap_image_ready"),
    ],
)
def test_a_lock_file_that_is_none(etc: Any, tmp_path: Path, lock: str, says: str) -> None:
    (tmp_path / "repo/repodata").mkdir(parents=True)
    (tmp_path / "lock").write_text(lock)
    etc.write("hermetic-build.cfg", HERMETIC)
    for repository, expected in ((tmp_path / "repo", says), (tmp_path, "not a repository")):
        words = ["--hermetic-build", str(tmp_path / "lock"), str(repository), "x.src.rpm"]
        line = parse_command_line(words, {})
        opts = load_config_opts(line.config_name, etc.path, home=etc.home)
        with pytest.raises(CommandLineError, match=expected):
            apply_command_line(opts, line)


def test_no_secret_of_a_repository_is_in_what_a_node_is_told(portable: Any) -> None:
    config = portable.config(
        SECRET_REPOSITORY + "config_opts['environment']['x_proxy'] = 'http://u:correct-horse@p:1'\n"
        "config_opts['dnf_vars'] = {'unused': 'v'}\n"
    )
    environment = {"http_proxy": "http://u:correct-horse@p:1", "A": "b"}
    given = config.repositories.of_chroot(environment)
    assert given.environment == {"A": "b"} and len(given.accesses) == 1
    assert "correct-horse" not in config.to_json(lambda text: text, given.environment)
    assert "correct-horse" not in config.to_json()
