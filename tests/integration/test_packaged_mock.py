# SPDX-License-Identifier: GPL-2.0-or-later
"""A packaged mock behind consolehelper: enabled by `mock-cloud launcher`, and by the launcher."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration import packaged_mock
from tests.integration.packaged_mock import PackagedMock
from tests.integration.real_mock import RealMock
from tests.lab.chroots import ConfigDirectory
from tests.lab.clouds.ec2 import Ec2Cloud
from tests.lab.srpm import Recipe, random_toy

pytestmark = pytest.mark.lab
# A command within two minutes of the last one's verdict relies on it.
_ATTESTED = re.compile(r"remote ec2: (?:node trusted|not measured again)")

SECRET = {"AWS_ACCESS_KEY_ID": "of-the-shell", "AWS_PROFILE": "none", "MOCK_REMOTE": "nowhere"}
RECORDER = """\
#!/bin/sh
env > {record}
exec {session} "$@"
"""
# As a distribution's key would: mock's own plugin hands it the packages.
SIGNER = """\
#!/bin/sh -e
export GNUPGHOME={keys}
printf '%s\\n' "$@" >>{signed}
exec rpmsign --define '__gpg /usr/bin/gpg' --define '_gpg_name Release' --addsign "$@"
"""
SIGNED = """\
config_opts['plugin_conf']['sign_enable'] = True
config_opts['plugin_conf']['sign_opts'] = {{'cmd': '{signer}', 'opts': '%(rpms)s'}}
config_opts['plugin_conf']['compress_logs_enable'] = True
"""


@pytest.fixture(scope="module")
def mock() -> Iterator[PackagedMock]:
    with packaged_mock.made() as made:
        yield made


@pytest.fixture(scope="module")
def bare(mock: PackagedMock) -> RealMock:
    return mock.bare


@pytest.fixture(scope="module")
def config(mock: PackagedMock, ec2_cloud: Ec2Cloud) -> Iterator[ConfigDirectory]:
    with packaged_mock.configured(mock, ec2_cloud) as config:
        yield config


def test_the_site_is_enabled_and_the_environment_is_stripped(
    bare: RealMock, mock: PackagedMock, config: ConfigDirectory, plain_srpm: Path
) -> None:
    """As kojid starts it: /usr/bin/mock, and nothing but configuration chooses the remote."""
    tool = (bare.place / "bin/mock-cloud", "launcher")
    site = config.path / "site-defaults.cfg"
    before = site.read_text()
    refused = mock.as_user(*tool, "enable", "--site").expect(3)
    assert "not writable" in refused.stderr and site.read_text() == before
    mock.as_root(*tool, "enable", "--site", "--remote", "ec2").expect()
    try:
        rows = json.loads(mock.as_root(*tool, "status", "--json").expect().stdout)
        assert {row["way"] for row in rows if row["on"]} == {"plugin", "site"}
        assert (mock.plugins / "remote.py").is_file()
        record, recorder = bare.place / "results/environment", bare.place / "bin/recorder"
        session = f"{bare.place}/venv/bin/python -m mock_cloud.handover"
        recorder.write_text(RECORDER.format(record=record, session=session))
        recorder.chmod(0o755)
        own = mock.home / ".config/mock.cfg"
        own.parent.mkdir(exist_ok=True)
        own.write_text(f"config_opts['plugin_conf']['remote_opts']['session'] = '{recorder}'\n")
        results = bare.place / "results/site"
        words = ("/usr/bin/mock", "-r", config.chroot(), "--resultdir", results, plain_srpm)
        ended = mock.as_user(*words, env=SECRET).expect()
        own.unlink()
        assert "node trusted" in ended.stderr and f"logs in: {results}" in ended.stderr
        assert {path.owner() for path in results.glob("*.rpm")} == {bare.user.pw_name}
        assert not list((bare.place / "lib").glob("*/root")), "mock made a chroot here"
        seen = dict(line.split("=", 1) for line in record.read_text().splitlines() if "=" in line)
        assert not set(SECRET) & set(seen) and "AWS" not in "".join(seen)
        assert (seen["HOME"], seen["USER"]) == (bare.user.pw_dir, bare.user.pw_name)
        here = mock.as_user("/usr/bin/mock", "-r", config.chroot(), "--debug-config").expect()
        assert "config_opts['remote'] = 'ec2'" in here.stdout
    finally:
        mock.as_root(*tool, "disable", "--site").expect()
    assert site.read_text() == before and not (mock.plugins / "remote.py").exists()


def test_the_launcher_before_it(
    bare: RealMock, mock: PackagedMock, config: ConfigDirectory
) -> None:
    """The plugin lies there as the package has it, switched off."""
    launcher, words = bare.place / "bin/launcher", ("-r", config.chroot())
    shutil.copy(bare.plugin, mock.plugins)
    try:
        root = f"{bare.place}/lib/{config.chroot()}/root/\n"
        for command in ("/usr/bin/mock", launcher):
            assert mock.as_user(command, *words, "--print-root-path").expect().stdout == root
        chroot = ("--chroot", "echo from $HOSTNAME")
        by_word = mock.as_user(launcher, *words, "--remote", "ec2", *chroot, env=SECRET).expect()
        assert "mock.py version" in by_word.stderr and "--enable-plugin=remote" in by_word.stderr
        assert by_word.stdout.startswith("from ")
        environ = {"MOCK_REMOTE": "ec2"}
        by_name = mock.as_user(launcher, *words, *chroot, env=environ).expect()
        assert by_name.stdout == by_word.stdout and _ATTESTED.search(by_name.stderr)
        assert not list((bare.place / "lib").glob("*/root"))
        wrong = [mock.as_user(one, *words, "--no-such", "x") for one in ("/usr/bin/mock", launcher)]
        assert wrong[0].code == wrong[1].code != 0
    finally:
        (mock.plugins / "remote.py").unlink()


def test_consolehelper_may_be_told_to_keep_the_variable(
    mock: PackagedMock, config: ConfigDirectory
) -> None:
    """Without the launcher MOCK_REMOTE ends at consolehelper, unless its file names it."""
    shutil.copy(mock.bare.plugin, mock.plugins)
    told = mock.place / "etc/security/console.apps/mock"
    site = config.path / "site-defaults.cfg"
    kept = told.read_text(), site.read_text()
    session = [str(mock.bare.place / "venv/bin/python"), "-m", "mock_cloud.handover"]
    try:
        with site.open("a") as stream:
            stream.write("config_opts['plugin_conf']['remote_enable'] = True\n")
            stream.write(f"config_opts['plugin_conf']['remote_opts']['session'] = {session!r}\n")
        words = ("/usr/bin/mock", "-r", config.chroot(), "--chroot", "true")
        told.write_text(kept[0].replace("COLUMNS", "COLUMNS,MOCK_REMOTE"))
        ended = mock.as_user(*words, env={"MOCK_REMOTE": "nowhere"}).expect(3)
        assert "no remote 'nowhere'" in ended.stderr
        ended = mock.as_user(*words, env={"MOCK_REMOTE": "ec2"}).expect()
        assert _ATTESTED.search(ended.stderr)
    finally:
        told.write_text(kept[0])
        site.write_text(kept[1])
        (mock.plugins / "remote.py").unlink()


@pytest.fixture
def signed(bare: RealMock, mock: PackagedMock, config: ConfigDirectory) -> Iterator[Path]:
    """Names of what mock's plugin `sign` was given, one a line. The remote has two builders."""
    place = bare.place / "signing"
    keys, names, signer = place / "keys", place / "names", bare.place / "bin/signer"
    keys.mkdir(parents=True, mode=0o700)
    names.touch()
    for path in (place, keys, names):
        os.chown(path, bare.user.pw_uid, bare.user.pw_gid)
    make = ("--batch", "--passphrase", "", "--quick-gen-key", "Release", "ed25519", "sign")
    mock.as_user("gpg", *make, env={"GNUPGHOME": str(keys)}).expect()
    signer.write_text(SIGNER.format(keys=keys, signed=names))
    signer.chmod(0o755)
    site, ec2 = config.path / "site-defaults.cfg", config.path / "remotes.d/ec2.toml"
    kept = site.read_text(), ec2.read_text()
    ec2.write_text(f'{kept[1]}\n[audit]\nrandom = true\nremotes = ["other"]\n')
    other = ec2.with_name("other.toml")
    other.write_text(kept[1])
    other.chmod(0o600)
    os.chown(other, bare.user.pw_uid, bare.user.pw_gid)
    rules = mock.home / ".config/mock/trust.toml"
    rules.parent.mkdir(parents=True, exist_ok=True)
    rules.write_text("[audits]\nnew = 1.0\n")
    site.write_text(kept[0] + SIGNED.format(signer=signer))
    shutil.copy(bare.plugin, mock.plugins)
    yield names
    mock.as_user(bare.place / "bin/mock-cloud", "release", "--all").expect()
    (mock.plugins / "remote.py").unlink()
    mock.as_user("gpgconf", "--kill", "all", env={"GNUPGHOME": str(keys)}).expect()
    site.write_text(kept[0])
    ec2.write_text(kept[1])
    other.unlink()
    rules.unlink()


@pytest.mark.slow
def test_mocks_plugin_signs_what_is_published_and_nothing_else(
    bare: RealMock,
    mock: PackagedMock,
    config: ConfigDirectory,
    signed: Path,
    plain_srpm: Path,
    lab_srpm: Callable[[Recipe], Path],
) -> None:
    """Each build is drawn and built by another: a lie never gets the user's signature."""
    place, tool = bare.place / "results/audited", bare.place / "bin/mock-cloud"
    words = ("-r", config.chroot(), "--remote", "ec2", "--resultdir", place)
    ended = mock.as_user(bare.place / "bin/launcher", *words, plain_srpm).expect()
    assert "audited, " in ended.stderr and "agrees on 2 packages" in ended.stderr
    packages = sorted(map(str, place.glob("*.rpm")))
    assert sorted(signed.read_text().split()) == packages
    assert len(packages) == 2
    for package in packages:
        said = mock.as_user("rpm", "-qp", "--qf", "%{RSAHEADER}%{DSAHEADER}", package).expect()
        assert said.stdout.count("(none)") == 1
    assert "build.log.gz" in {path.name for path in place.iterdir()}
    assert mock.as_user(tool, "verify", place).expect().stdout.startswith("verified: 2 packages")
    again = ("audit", place, "--remote", "other", "--", "-r", config.chroot(), plain_srpm)
    assert "audited before" in mock.as_user(tool, *again).expect().stderr

    lie = bare.place / "results/lie"
    words = ("-r", config.chroot(), "--remote", "ec2", "--resultdir", lie)
    ended = mock.as_user(bare.place / "bin/launcher", *words, lab_srpm(random_toy())).expect(76)
    assert "who differs is flagged" in ended.stderr
    assert sorted(signed.read_text().split()) == packages
