# SPDX-License-Identifier: GPL-2.0-or-later
"""The plugin in unmodified upstream mock, which sudo starts for a user who is not root.

The remote is the lab's EC2: nothing on this machine needs root's rights but mock itself. What these
tests show does not depend on the engine; test_mock_engine_modes.py has the other one.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration import real_mock
from tests.integration.conftest import Ended
from tests.integration.real_mock import RealMock
from tests.lab.chroots import ConfigDirectory
from tests.lab.clouds.ec2 import Ec2Cloud
from tests.lab.layout import Lab
from tests.waiting import wait_for

pytestmark = pytest.mark.lab

ENABLED = "config_opts['plugin_conf']['remote_enable'] = True\n"
REMOTE = "config_opts['remote'] = 'ec2'\n"
FINISHING = """\
config_opts['plugin_conf']['sign_enable'] = True
config_opts['plugin_conf']['sign_opts'] = {{'cmd': '{cmd}', 'opts': '%(rpms)s'}}
config_opts['plugin_conf']['compress_logs_enable'] = True
config_opts['createrepo_on_rpms'] = True
"""
RECORDER = """\
#!/bin/sh
grep -E '^(Uid|Gid|Groups|CapEff|CapPrm):' /proc/self/status > {place}/results/session
env > {place}/results/environment
exec mock-cloud-session "$@"
"""


@pytest.fixture(scope="module")
def mock() -> Iterator[RealMock]:
    """mock with the plugin."""
    with real_mock.made() as made:
        yield made


@pytest.fixture(scope="module")
def config(mock: RealMock, ec2_cloud: Ec2Cloud) -> Iterator[ConfigDirectory]:
    """mock's configuration, and a remote whose credentials only the user may read."""
    ec2_cloud.reset()
    written = ec2_cloud.write_config(mock.place / "etc")
    real_mock.configure(mock, written.path)
    shutil.copy(ec2_cloud.manifest, mock.place)  # the lab's own is for root's eyes
    remote = written.path / "remotes.d/ec2.toml"
    text = remote.read_text().replace(str(ec2_cloud.manifest.parent), str(mock.place))
    assert "[build]" not in text
    remote.write_text(text + '\n[build]\nengine = "chroot"\n')
    os.chown(remote, mock.user.pw_uid, mock.user.pw_gid)
    # The node starts here and not in a test: to the guard against leaks it was there before.
    chroot = ("--configdir", written.path, "-r", written.chroot())
    mock.run(*chroot, "--enable-plugin=remote", "--config-opts=remote=ec2", "--init").expect()
    yield written
    command = str(mock.place / "bin/mock-cloud")
    mock.as_user(command, "release", "--all", "--configdir", str(written.path)).expect()
    ec2_cloud.reset()


Mock = Callable[..., Ended]


@pytest.fixture
def run(mock: RealMock, config: ConfigDirectory) -> Iterator[Mock]:
    """Runs mock with the lab's chroot; configuration files are as they were afterwards."""
    files = [config.path / "site-defaults.cfg", config.chroot_file()]
    kept = [path.read_text() for path in files]

    def start(*words: str | Path, mock: RealMock = mock) -> Ended:
        return mock.run("--configdir", config.path, "-r", config.chroot(), *words)

    yield start
    for path, text in zip(files, kept, strict=True):
        path.write_text(text)


def add(path: Path, text: str) -> None:
    with path.open("a") as stream:
        stream.write(text)


def built_here(mock: RealMock) -> list[Path]:
    """Chroots of mock's own."""
    return list((mock.place / "lib").glob("*/root"))


def fields(path: Path) -> dict[str, str]:
    lines = (line.partition(":") for line in path.read_text().splitlines())
    return {name: value.strip() for name, _, value in lines}


def test_a_chroots_file_enables_it_and_mocks_own_plugins_finish(
    mock: RealMock,
    config: ConfigDirectory,
    run: Mock,
    plain_srpm: Path,
    conditional_srpm: Path,
) -> None:
    """Several packages: signed, logs compressed, a repository made, all here and by mock."""
    signer, recorder = mock.place / "bin/signer", mock.place / "bin/recorder"
    signer.write_text(f'#!/bin/sh\n(id -u; printf "%s\\n" "$@") >> {mock.place}/results/signed\n')
    recorder.write_text(RECORDER.format(place=mock.place))
    for path in (signer, recorder):
        path.chmod(0o755)
    session = f"config_opts['plugin_conf']['remote_opts']['session'] = '{recorder}'\n"
    add(config.chroot_file(), ENABLED + REMOTE + FINISHING.format(cmd=signer) + session)
    results = mock.place / "results/all"
    ended = run("--resultdir", results, plain_srpm, conditional_srpm).expect()
    assert "node trusted" in ended.stderr
    names = {path.name for path in results.iterdir()}
    packages = {name for name in names if name.endswith(".rpm")}
    for srpm in (plain_srpm, conditional_srpm):
        name = srpm.name.removesuffix(".src.rpm")
        assert len([package for package in packages if package.startswith(name)]) == 2
    assert {"root.log.gz", "build.log.gz", "state.log.gz", "repodata"} <= names
    assert {path.owner() for path in results.glob("*.rpm")} == {mock.user.pw_name}
    # Signed for are the files as mock's own plugins left them.
    command = str(mock.place / "bin/mock-cloud")
    ended = mock.as_user(command, "verify", str(results)).expect()
    assert ended.stdout.startswith("verified: 4 packages")
    who, *signed = (mock.place / "results/signed").read_text().splitlines()
    assert int(who) == mock.user.pw_uid
    assert set(signed) == {str(results / name) for name in packages}
    assert built_here(mock) == []
    check_identity(mock)


def check_identity(mock: RealMock) -> None:
    """The session had the rights that the user has who logs in, and no way back to root's."""
    status = fields(mock.place / "results/session")
    uid, gid = str(mock.user.pw_uid), str(mock.user.pw_gid)
    assert status["Uid"].split() == [uid] * 4
    assert status["Gid"].split() == [gid] * 4
    groups = os.getgrouplist(mock.user.pw_name, mock.user.pw_gid)
    assert sorted(map(int, status["Groups"].split())) == sorted(groups)
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
    environment = (mock.place / "results/environment").read_text().splitlines()
    assert f"HOME={mock.user.pw_dir}" in environment
    assert f"USER={mock.user.pw_name}" in environment


def test_a_chains_repository_names_packages_as_they_were_signed(
    mock: RealMock, config: ConfigDirectory, run: Mock, chain_srpms: tuple[Path, Path]
) -> None:
    signer = mock.place / "bin/marker"
    signer.write_text('#!/bin/sh\nfor package; do printf signed >> "$package"; done\n')
    signer.chmod(0o755)
    sign = f"config_opts['plugin_conf']['sign_opts'] = {{'cmd': '{signer}', 'opts': '%(rpms)s'}}\n"
    add(config.chroot_file(), ENABLED + REMOTE + sign)
    repository = mock.place / "results/chain"
    words = ("--enable-plugin=sign", "--chain", "--localrepo", repository)
    run(*words, *chain_srpms).expect()
    place = repository / "results" / config.chroot()
    primary = next((place / "repodata").glob("*-primary.xml.*"))
    listed = set(
        re.findall(r'pkgid="YES">([0-9a-f]{64})<', gzip.decompress(primary.read_bytes()).decode())
    )
    packages = [path for path in place.glob("*/*.rpm") if not path.name.endswith(".src.rpm")]
    assert len(packages) >= 2
    for package in place.glob("*/*.rpm"):
        assert package.read_bytes().endswith(b"signed")
    assert {hashlib.sha256(path.read_bytes()).hexdigest() for path in packages} == listed


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--chroot", "exit 0"), 0, ""),
        (("--no-clean", "failing"), 1, "rpmbuild"),
        (("--no-clean", "missing"), 30, "not be found"),
        (("--no-such-option",), 5, "unknown option '--no-such-option'"),
        (("--pm-cmd", "install", "x"), 50, "--pm-cmd"),
        (("--config-opts", "remote=nowhere", "--init"), 3, "no remote 'nowhere'"),
    ],
    ids=lambda value: value[-1] if isinstance(value, tuple) else None,
)
def test_the_sites_file_enables_it_and_exit_codes_pass(
    mock: RealMock,
    config: ConfigDirectory,
    run: Mock,
    request: pytest.FixtureRequest,
    words: tuple[str, ...],
    code: int,
    says: str,
) -> None:
    add(config.path / "site-defaults.cfg", ENABLED + REMOTE)
    srpms = {"failing": "failing_srpm", "missing": "missing_requirement_srpm"}
    given = [request.getfixturevalue(srpms[word]) if word in srpms else word for word in words]
    ended = run(*given).expect(code)
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr
    assert built_here(mock) == []


def test_mock_itself_runs_on_the_node_with_what_mock_hands_over(
    mock: RealMock, config: ConfigDirectory, run: Mock, plain_srpm: Path
) -> None:
    remote = config.path / "remotes.d/ec2.toml"
    before = remote.read_text()
    signer = mock.place / "bin/signer"
    signer.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {mock.place}/results/signed-here\n')
    signer.chmod(0o755)
    finishing = FINISHING.format(cmd=signer).replace("createrepo_on_rpms'] = True", "x'] = 1")
    add(config.chroot_file(), ENABLED + REMOTE + finishing)
    (mock.place / "results/macros").write_text("%own_macro yes\n")
    try:
        remote.write_text(before.replace('engine = "chroot"', 'engine = "auto"'))
        words = ("-v", "--macro-file", mock.place / "results/macros", "--uniqueext", "own")
        results = mock.place / "results/engine"
        ended = run(*words, "--resultdir", results, plain_srpm).expect()
    finally:
        remote.write_text(before)
    assert "mock engine, this machine's mock" in ended.stderr
    assert {"root.log.gz", "state.log.gz"} <= {path.name for path in results.iterdir()}
    packages = sorted(map(str, results.glob("*.rpm")))
    assert len(packages) == 2
    assert sorted((mock.place / "results/signed-here").read_text().split()) == packages
    assert built_here(mock) == []


def test_a_shell_has_the_users_terminal(mock: RealMock, config: ConfigDirectory) -> None:
    words = ("--configdir", config.path, "-r", config.chroot(), "--config-opts=remote=ec2")
    shell = ("--enable-plugin=remote", "--shell", "tty; exit 3")
    ended = mock.on_terminal(*words, *shell).expect(3)
    assert "/dev/pts/" in ended.stdout


def test_a_refusal_is_77_and_nothing_is_built(
    mock: RealMock, config: ConfigDirectory, run: Mock, lab: Lab, plain_srpm: Path
) -> None:
    remotes = config.path / "remotes.d"
    other = (remotes / "ec2.toml").read_text().replace("package_keys", "ignore_me").splitlines()
    text = "\n".join(line for line in other if not line.startswith("ignore_me"))
    text = text.replace("[attest]", f'[attest]\npackage_keys = ["{lab.foreign_key}"]')
    (remotes / "strict.toml").write_text(text)
    (remotes / "strict.toml").chmod(0o600)
    os.chown(remotes / "strict.toml", mock.user.pw_uid, mock.user.pw_gid)
    words = ("--enable-plugin=remote", "--config-opts=remote=strict")
    ended = run(*words, "--resultdir", mock.place / "results/refused", plain_srpm).expect(77)
    assert "refused: " in ended.stderr
    assert built_here(mock) == []
    assert not list((mock.place / "results/refused").glob("*.rpm"))


def has_ended(pid: int) -> bool:
    """Whether a process is gone, or is ours to reap: we adopt orphans."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 7), (signal.SIGKILL, -9)]
)
def test_the_session_ends_with_mock(
    mock: RealMock,
    config: ConfigDirectory,
    sleeping_srpm: Path,
    number: signal.Signals,
    code: int,
) -> None:
    words = ("--configdir", config.path, "-r", config.chroot(), "--config-opts=remote=ec2")
    with mock.started("--enable-plugin=remote", *words, sleeping_srpm) as run:
        run.wait_for("node trusted")
        session = run.session()
        run.child.send_signal(number)
        assert run.child.wait(timeout=600) == code
        wait_for(lambda: has_ended(session))
    said = run.output.read_text()
    assert "Traceback" not in said
    assert built_here(mock) == []


def test_the_launcher_turns_it_on_and_off(mock: RealMock, config: ConfigDirectory) -> None:
    words = ("--configdir", config.path, "-r", config.chroot())
    there = mock.launch(*words, "--remote", "ec2", "--chroot", "echo from $HOSTNAME").expect()
    assert "mock.py version" in there.stderr and "--enable-plugin=remote" in there.stderr
    assert "node trusted" in there.stderr or "not measured again" in there.stderr
    assert there.stdout.startswith("from ")
    assert built_here(mock) == []
    here = mock.launch(*words, "--no-remote", "--print-root-path").expect()
    assert here.stdout == f"{mock.place}/lib/{config.chroot()}/root/\n"


def test_switched_off_it_is_as_if_it_were_not_there(
    mock: RealMock, config: ConfigDirectory, run: Mock
) -> None:
    bare = mock.copy("bare")
    bare.plugin.unlink()
    words = ("--debug-config",)
    without = run(*words, mock=bare).expect()
    with_it = run(*words).expect()
    assert options(with_it) == options(without)
    # Enabled, but no remote is chosen: mock's own run_command runs.
    enabled = run("--enable-plugin=remote", *words).expect()
    assert "config_opts['root']" in enabled.stdout
    # A remote is configured, but the plugin is not enabled: mock does not know the option.
    add(config.chroot_file(), REMOTE)
    assert "node" not in run(*words).expect().stderr


@pytest.mark.slow
def test_a_local_build_is_the_same_with_the_plugin_there(
    mock: RealMock, run: Mock, plain_srpm: Path
) -> None:
    bare = mock.copy("bare")
    bare.plugin.unlink()
    ended = {}
    for name, one in (("bare", bare), ("with", mock)):
        results = mock.place / "results" / name
        usual = replace(one, before=tuple(real_mock.usual_rpm(mock.place)))
        ended[name] = run("--resultdir", results, plain_srpm, mock=usual).expect()
        run("--scrub=all", mock=one).expect()
    assert messages(ended["with"]) == messages(ended["bare"])
    left, right = (
        sorted(path.name for path in (mock.place / "results" / name).iterdir()) for name in ended
    )
    assert left == right and "remote_attestation.log" not in left
    assert any(name.endswith(".noarch.rpm") for name in left)


def messages(ended: Ended) -> list[str]:
    """mock's own lines, without what differs between any two runs."""
    wanted = re.compile(r"(INFO|WARNING|ERROR|Start|Finish): (?!mock.py version|Results|Done)")
    return [line for line in ended.stderr.splitlines() if wanted.match(line)]


def options(ended: Ended) -> list[str]:
    """What --debug-config printed, without what differs between any two runs and copies."""
    ours = ("mock_run_uuid", "plugin_dir")
    return [line for line in ended.stdout.splitlines() if not any(word in line for word in ours)]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("def run_command(", "def perform(", "it has no run_command"),
        (
            "def run_command(options, args, config_opts, commands, buildroot)",
            "def run_command(options, args, config_opts, commands)",
            "its run_command takes options, args, config_opts, commands",
        ),
        (
            "result = run_command(options",
            "result = globals()['local'](options",
            "it began to make a chroot here",
        ),
    ],
    ids=["no run_command", "other parameters", "not called"],
)
def test_a_mock_that_changed_is_one_clear_error(
    run: Mock, mock: RealMock, plain_srpm: Path, old: str, new: str, says: str
) -> None:
    changed = mock.copy("changed")
    text = changed.script.read_text()
    assert old in text
    start = "if __name__ == '__main__':"
    text = text.replace(old, new).replace(start, f"local = globals().get('run_command')\n{start}")
    changed.script.write_text(text)
    results = mock.place / "results/changed"
    words = ("--enable-plugin=remote", "--config-opts=remote=ec2", "--resultdir", results)
    ended = run(*words, plain_srpm, mock=changed).expect(1)
    errors = [line for line in ended.stderr.splitlines() if line.startswith("ERROR: remote")]
    assert len(errors) == 1 and says in errors[0] and "Nothing was built" in errors[0]
    assert "Traceback" not in ended.stderr
    assert not list(results.glob("*.rpm"))
