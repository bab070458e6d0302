# SPDX-License-Identifier: GPL-2.0-or-later
"""Remotes: strict TOML, with the line of the mistake."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mock_cloud.config.remotes import list_remotes, load_remote, read_remote
from mock_cloud.config.toml_values import Refused, duration
from mock_cloud.errors import ConfigError, MockCloudError
from mock_cloud.settings import EngineChoice, SecondLook

GOOD = """\
[remote]
provider = "local"
arches = ["x86_64"]

[local]
image = "tree"

[attest]
manifest = "m.json"
manifest_keys = ["m.pub"]
package_keys = ["keys/p.asc"]
"""

FULL = (
    GOOD.replace('image = "tree"', 'image = "tree"\naddress = "127.9.8.7"\ndisk_mib = 512\n'
                 'boot_timeout = "1m"')
    + 'second_look = "always"\n'
    + '\n[lease]\nidle_ttl = "0s"\nmax_ttl = "2h"\nmax_nodes = 3\nmax_builds = 9\n'
    + '\n[build]\nengine = "chroot"\nconnect_timeout = 5\nsilence_timeout = 7.5\n'
)  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> Path:
    directory = tmp_path / "remotes.d"
    (directory / "tree").mkdir(parents=True)
    (directory / "keys").mkdir()
    for name in ("m.json", "m.pub", "keys/p.asc"):
        (directory / name).write_text("x")
    (directory / "lab.toml").write_text(GOOD)
    return tmp_path


def test_a_small_remote_has_the_defaults(place: Path) -> None:
    remote = load_remote("lab", place, home=place)
    assert (remote.name, remote.provider, remote.arches) == ("lab", "local", ("x86_64",))
    assert remote.source == place / "remotes.d/lab.toml"
    assert remote.local is not None
    assert remote.local.image == place / "remotes.d/tree"
    assert remote.attest.package_keys == (place / "remotes.d/keys/p.asc",)
    assert (remote.lease.idle_ttl_s, remote.build.engine) == (600.0, EngineChoice.AUTO)


def test_every_key(place: Path) -> None:
    (place / "remotes.d/lab.toml").write_text(FULL)
    remote = load_remote("lab", place, home=place)
    assert remote.local is not None
    assert (remote.local.address, remote.local.disk_mib, remote.local.boot_timeout_s) == (
        "127.9.8.7", 512, 60.0,
    )  # fmt: skip
    assert (remote.lease.idle_ttl_s, remote.lease.max_ttl_s) == (0.0, 7200.0)
    assert (remote.lease.max_nodes, remote.lease.max_builds) == (3, 9)
    assert remote.attest.second_look is SecondLook.ALWAYS
    assert remote.build.engine is EngineChoice.CHROOT
    assert (remote.build.connect_timeout_s, remote.build.silence_timeout_s) == (5.0, 7.5)


EXAMPLE = Path(__file__).parents[3] / "etc/mock/remotes.d/local.toml"


def test_the_shipped_example_works_and_shows_the_true_defaults(place: Path) -> None:
    text = EXAMPLE.read_text()
    for shown, real in (
        ("/srv/mock-cloud/node.manifest.json", "m.json"),
        ("/srv/mock-cloud/node", "tree"),
        ("/srv/mock-cloud/manifest.pub", "m.pub"),
        ("/etc/pki/rpm-gpg/RPM-GPG-KEY-fedora-43-x86_64", "keys/p.asc"),
    ):
        assert shown in text
        text = text.replace(shown, real)
    path = place / "remotes.d/lab.toml"
    path.write_text(text)
    plain = read_remote("lab", path)
    uncommented, count = re.subn(r"(?m)^#(?=[a-z_]+ = )", "", text)
    assert count == 19
    path.write_text(uncommented)
    assert read_remote("lab", path) == plain


MISTAKES: list[tuple[str, str, int, str]] = [
    ('provider = "local"', 'provider = "locla"', 2, "did you mean 'local'"),
    ('provider = "local"', "provider = 1", 2, "string"),
    ('provider = "local"', 'provder = "local"', 2, "unknown key 'provder'; did you mean 'prov"),
    ('provider = "local"\n', "", 1, "lacks the key 'provider'"),
    ('["x86_64"]', '"x86_64"', 3, "list"),
    ('["x86_64"]', "[]", 3, "list"),
    ('["x86_64"]', '["x86 64"]', 3, "plain word"),
    ("[local]", "[lokal]", 5, "unknown table 'lokal'; did you mean 'local'"),
    ('[local]\nimage = "tree"\n', "", 2, "needs the table [local]"),
    ('image = "tree"', 'image = "none"', 6, "no directory"),
    ('image = "tree"', 'image = "m.json"', 6, "no directory"),
    ('image = "tree"', 'image = "tree"\naddress = "10.0.0.1"', 7, "loopback"),
    ('image = "tree"', 'image = "tree"\naddress = "localhost"', 7, "IP address"),
    ('image = "tree"', 'image = "tree"\ndisk_mib = -1', 7, "between"),
    ('image = "tree"', 'image = "tree"\ndisk_mib = true', 7, "integer"),
    ("[attest]\n", "[attest]\nsecond_look = 'maybe'\n", 9, "'never', 'always'"),
    ('"m.json"', '"none.json"', 9, "No such file"),
    ('"m.json"', '""', 9, "string"),
    ('["m.pub"]', "[]", 10, "at least one"),
    ('["keys/p.asc"]', "[]", 11, "at least one"),
    ('["keys/p.asc"]', '["keys"]', 11, "keys"),
    ('package_keys = ["keys/p.asc"]\n', "", 8, "lacks the key 'package_keys'"),
    ("[remote]\n", "stray = 1\n[remote]\n", 1, "unknown key 'stray'"),
    ("[remote]\n", "attest = 1\n[remote]\n", 9, "not TOML"),
    ("[remote]", "[remote", 1, "not TOML"),
    ('"m.json"', '"m.json"\nmanifest = "m.json"', 10, "not TOML"),
]


@pytest.mark.parametrize(("old", "new", "number", "words"), MISTAKES, ids=lambda it: str(it)[:30])
def test_mistakes_name_file_line_and_remedy(
    place: Path, old: str, new: str, number: int, words: str
) -> None:
    assert old in GOOD
    path = place / "remotes.d/lab.toml"
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        load_remote("lab", place, home=place)
    assert words in caught.value.message
    assert caught.value.message.startswith(f"{path}:{number}: ")
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("lease", "words"),
    [
        ('max_ttl = "8d"', "between"),
        ("max_ttl = 1e400", "between"),
        ("max_ttl = nan", "between"),
        ("max_ttl = -5", "between"),
        ('max_ttl = "0s"', "between"),
        ('max_ttl = "1 fortnight"', "duration"),
        ("max_ttl = true", "duration"),
        ('idle_ttl = "-1s"', "duration"),
        ('idle_ttl = "2h"\nmax_ttl = "1h"', "longer than max_ttl"),
        ("max_nodes = 0", "between"),
        ("max_nodes = 100000", "between"),
        ("max_builds = 1.5", "integer"),
    ],
)
def test_dangerous_leases_are_refused(place: Path, lease: str, words: str) -> None:
    (place / "remotes.d/lab.toml").write_text(f"{GOOD}[lease]\n{lease}\n")
    with pytest.raises(ConfigError, match=words):
        load_remote("lab", place, home=place)


def test_what_everybody_may_write_is_not_trusted(place: Path) -> None:
    for name in ("m.pub", "keys/p.asc", "m.json", "lab.toml"):
        path = place / "remotes.d" / name
        path.chmod(0o666)
        with pytest.raises(ConfigError, match="writable by everybody"):
            load_remote("lab", place, home=place)
        path.chmod(0o644)
    assert load_remote("lab", place, home=place).name == "lab"


def test_search_order_and_listing(place: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    own = home / ".config/mock/remotes.d"
    own.mkdir(parents=True)
    (own / "lab.toml").write_text("broken")
    (own / "mine.toml").write_text(FULL)
    assert load_remote("lab", place, home=home).source.parent == place / "remotes.d"
    with pytest.raises(ConfigError, match="not TOML"):
        load_remote("lab", home=home)
    names = [remote.name for remote in list_remotes(place, home)]
    assert [name for name in names if name in ("lab", "mine")] == ["lab", "mine"]


def test_an_unknown_remote_lists_near_names_and_places(place: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_remote("labs", place, home=place)
    assert str(place / "remotes.d") in caught.value.message
    assert "lab" in str(caught.value.hint)


@pytest.mark.parametrize("name", ["", "..", "../lab", "a/b", "-x", "a\nb"])
def test_a_name_is_no_path(place: Path, name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_remote(name, place, home=place)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("raw", "seconds"),
    [("90s", 90), ("10m", 600), ("4h", 14400), ("1d", 86400), (5, 5), ("1.5m", 90)],
)
def test_durations(raw: object, seconds: float) -> None:
    assert duration(0, 1e9)(raw, Path()) == seconds


@given(st.one_of(st.text(), st.floats(), st.integers(), st.none(), st.booleans(), st.binary()))
def test_durations_are_within_bounds_or_refused(raw: object) -> None:
    try:
        assert 1 <= duration(1, 100)(raw, Path()) <= 100
    except Refused as error:
        assert str(error)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, len(FULL)), junk=st.text(max_size=8), cut=st.integers(0, 30))
def test_damaged_files_are_read_or_refused(place: Path, position: int, junk: str, cut: int) -> None:
    path = place / "remotes.d/lab.toml"
    text = FULL[:position] + junk + FULL[position + cut :]
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        assert read_remote("lab", path).provider == "local"
    except MockCloudError as error:
        assert isinstance(error, ConfigError)
