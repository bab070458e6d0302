# SPDX-License-Identifier: GPL-2.0-or-later
"""Scripts around mock that know nothing of remotes: what they type, read and count on.

Each runs with the chroot engine, where there is no mock, and with a packaged real mock through
consolehelper and the plugin. The configuration is in /etc/mock, as such scripts expect.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration import packaged_mock, real_mock
from tests.integration.conftest import Ended, User
from tests.lab.clouds.ec2 import Ec2Cloud
from tests.lab.http import FileServer

pytestmark = pytest.mark.lab

LOOP = """\
cd "$SRPMS"
for f in *.src.rpm; do mock -r "$ROOT" "$f" || exit; done
"""
LOOP_RESULTDIR = """\
cd "$SRPMS"
for f in *.src.rpm; do mock -r "$ROOT" --resultdir "$OUT" "$f" || exit; done
"""
# What mockchain did before mock had --chain: a repository that grows with each package.
CHAIN_BY_HAND = """\
mkdir -p "$OUT"
createrepo_c --quiet "$OUT"
for f in $WANTED; do
    name=$(basename "$f" .src.rpm)
    mock -r "$ROOT" --addrepo "$URL" --resultdir "$OUT/$name" "$SRPMS/$f" || exit
    createrepo_c --quiet "$OUT"
done
"""
CHAIN = """\
cd "$SRPMS"
mock -r "$ROOT" --chain --localrepo "$OUT" $WANTED
"""
# A release tool: asks mock where things are, builds, and looks at what came of it.
RELEASE_TOOL = """\
root=$(mock -r "$ROOT" --print-root-path) || exit
arch=$(mock -r "$ROOT" --debug-config | sed -n "s/^config_opts.'target_arch'. = '\\(.*\\)'/\\1/p")
mkdir -p "$OUT"
for f in "$SRPMS"/*.src.rpm; do
    mock -r "$ROOT" --resultdir "$OUT" --rebuild "$f" > "$OUT/said" 2>&1
    code=$?
    where=$(sed -n 's/^INFO: Results and\\/or logs in: //p' "$OUT/said")
    echo "$(basename "$f") $code $root $arch $where"
    test $code = 0 || { grep '^ERROR' "$OUT/said"; exit $code; }
    find "$where" -name '*.rpm' ! -name '*.src.rpm' -exec rpm -qp --nosignature {} \\;
done
"""


@dataclass(frozen=True)
class Shell:
    """Runs scripts with a `mock` on their PATH, in a directory of their own."""

    place: Path
    root: str
    basedir: Path
    site: Path
    start: Callable[[list[str], Mapping[str, str]], Ended]

    def run(self, script: str, *srpms: Path, **env: str) -> Ended:
        """Run `script` with $SRPMS holding copies of `srpms`, and $OUT to be made."""
        sources, out = self.place / "srpms", self.place / "out"
        for path in (sources, out):
            shutil.rmtree(path, ignore_errors=True)
        sources.mkdir()
        for srpm in srpms:
            Path(shutil.copy(srpm, sources)).chmod(0o644)
        wanted = " ".join(path.name for path in srpms)
        given = {"ROOT": self.root, "SRPMS": str(sources), "OUT": str(out), "WANTED": wanted}
        return self.start(["sh", "-c", script], {**given, **env})

    @property
    def out(self) -> set[str]:
        return {path.name for path in (self.place / "out").rglob("*.rpm")}


# The user's /etc/mock, in a mount namespace: such scripts have no --configdir.
_ETC = 'mount -t overlay overlay -o "lowerdir=$0:/etc" /etc && exec "$@"'


def _shell_alone(user: User) -> Shell:
    place = user.place / "scripts"
    for name in ("etc", "bin"):
        (place / name).mkdir(parents=True, exist_ok=True)
    (place / "etc/mock").symlink_to(user.config.path)
    command = place / "bin/mock"
    command.write_text(
        f"#!{sys.executable}\nimport sys\nfrom mock_cloud.launcher import main\nsys.exit(main())\n"
    )
    command.chmod(0o755)
    path = f"{command.parent}:{user.environment['PATH']}"

    def start(argv: list[str], env: Mapping[str, str]) -> Ended:
        layout = ["unshare", "--mount", "sh", "-c", _ETC, str(place / "etc")]
        return user.run(
            [*layout, *argv], env={"PYTHONPATH": ":".join(sys.path), **env, "PATH": path}
        )

    site = user.config.path / "site-defaults.cfg"
    return Shell(place, user.config.chroot(), user.basedir, site, start)


@pytest.fixture(scope="module")
def alone(mock: User) -> Iterator[Shell]:
    """No mock on this machine: the launcher and the chroot engine."""
    mock.mock("--init").expect()  # in a long run its node has been idle for too long
    shell = _shell_alone(mock)
    yield shell
    shutil.rmtree(shell.place)


@pytest.fixture(scope="module")
def packaged(request: pytest.FixtureRequest) -> Iterator[Shell]:
    """A packaged mock, behind the launcher."""
    real_mock.find_source()  # skips, before a cloud is started for nothing
    cloud: Ec2Cloud = request.getfixturevalue("ec2_cloud")
    with packaged_mock.made() as mock, packaged_mock.configured(mock, cloud) as config:
        shutil.copy(mock.bare.plugin, mock.plugins)
        place = mock.bare.place / "scripts"
        (place / "bin").mkdir(parents=True)
        (place / "bin/mock").symlink_to(mock.bare.place / "bin/launcher")
        os.chown(place, mock.user.pw_uid, mock.user.pw_gid)

        def start(argv: list[str], env: Mapping[str, str]) -> Ended:
            return mock.as_user(*argv, env={**env, "PATH": f"{place}/bin:/usr/bin:/bin"})

        site = config.path / "site-defaults.cfg"
        yield Shell(place, config.chroot(), mock.bare.place / "lib", site, start)


@pytest.fixture(scope="module", params=["alone", "packaged"])
def either(request: pytest.FixtureRequest) -> Shell:
    shell: Shell = request.getfixturevalue(request.param)
    return shell


@pytest.fixture
def shell(either: Shell) -> Iterator[Shell]:
    """Either; site-defaults.cfg is afterwards as it was."""
    kept = either.site.read_text()
    yield either
    either.site.write_text(kept)


def remote_of(shell: Shell) -> str:
    return "ec2" if shell.site.with_name("remotes.d").joinpath("ec2.toml").exists() else "local"


def configure(shell: Shell) -> None:
    """Choose the remote for the whole machine, and nothing else."""
    with shell.site.open("a") as stream:
        stream.write(f"config_opts['remote'] = {remote_of(shell)!r}\n")


def test_a_release_tool(shell: Shell, plain_srpm: Path) -> None:
    """By configuration: neither the tool nor its environment says remote."""
    configure(shell)
    ended = shell.run(RELEASE_TOOL, plain_srpm).expect()
    first, *packages = ended.stdout.splitlines()
    out = shell.place / "out"
    arch = shell.root.rpartition("-")[2]
    root = f"{shell.basedir}/{shell.root}/root/"
    assert first.split() == [plain_srpm.name, "0", root, arch, str(out)]
    assert len(packages) == 1 and packages[0].startswith("toy-plain-")
    assert "node trusted" in (out / "said").read_text()
    assert {"build.log", "root.log", "state.log"} <= {path.name for path in out.iterdir()}


@pytest.mark.slow
def test_a_release_tool_sees_a_failure(shell: Shell, failing_srpm: Path, plain_srpm: Path) -> None:
    ended = shell.run(RELEASE_TOOL, failing_srpm, plain_srpm, MOCK_REMOTE=remote_of(shell))
    first, *errors = ended.stdout.splitlines()
    assert first.split()[:2] == [failing_srpm.name, str(ended.code)] and ended.code == 1
    assert errors and "about to fail" in (shell.place / "out/build.log").read_text()
    assert not [name for name in shell.out if name.startswith("toy-plain")]


@pytest.mark.slow
@pytest.mark.parametrize("script", [LOOP, LOOP_RESULTDIR], ids=["default", "resultdir"])
def test_a_loop_over_packages(
    shell: Shell, plain_srpm: Path, conditional_srpm: Path, failing_srpm: Path, script: str
) -> None:
    """By the environment. The first package that fails ends it, with mock's exit status."""
    default = shell.basedir / shell.root / "result"
    results = default if script is LOOP else shell.place / "out"
    environ = {"MOCK_REMOTE": remote_of(shell)}
    ended = shell.run(script, plain_srpm, conditional_srpm, **environ).expect()
    assert ended.stderr.count(f"INFO: Results and/or logs in: {results}\n") == 2
    names = {path.name.partition("-1")[0] for path in results.glob("*.rpm")}
    # With the chroot mock removes what is beside it, the default resultdir of the package before.
    first = set() if script is LOOP else {"toy-conditional"}
    assert names == {"toy-plain", *first}
    shutil.rmtree(default, ignore_errors=True)
    # toy-conditional, toy-failing, toy-plain: a shell's order.
    shell.run(script, plain_srpm, conditional_srpm, failing_srpm, **environ).expect(1)
    names = {path.name.partition("-1")[0] for path in results.glob("*.rpm")}
    assert names == first


@pytest.mark.slow
def test_a_word_of_the_users(shell: Shell, plain_srpm: Path) -> None:
    """By --remote: wrappers hand on what their user types."""
    script = 'cd "$SRPMS" && mock $MOCKARGS -r "$ROOT" --resultdir "$OUT" *.src.rpm'
    shell.run(script, plain_srpm, MOCKARGS=f"--remote {remote_of(shell)}").expect()
    assert len(shell.out) == 2
    script = 'mock $MOCKARGS -r "$ROOT" --print-root-path'
    words = f"--remote={remote_of(shell)}"
    for args in ("", words):
        shown = shell.run(script, MOCKARGS=args).expect().stdout
        assert shown == f"{shell.basedir}/{shell.root}/root/\n"


@pytest.mark.slow
def test_a_chain(shell: Shell, chain_srpms: tuple[Path, Path]) -> None:
    configure(shell)
    ended = shell.run(CHAIN, *chain_srpms).expect()
    assert "Packages built: 2" in ended.stderr
    assert {name.partition("-1")[0] for name in shell.out} == {"toy-chain-a", "toy-chain-b"}
    results = shell.place / "out/results" / shell.root
    assert (results / "repodata/repomd.xml").is_file()


@pytest.mark.slow
def test_a_chain_by_hand(alone: Shell, chain_srpms: tuple[Path, Path]) -> None:
    """The second package needs the first, from the repository that the script makes."""
    (alone.place / "out").mkdir(exist_ok=True)
    with FileServer({"/grown": alone.place / "out"}) as server:
        environ = {"URL": f"{server.url}/grown", "MOCK_REMOTE": "local"}
        alone.run(CHAIN_BY_HAND, *chain_srpms, **environ).expect()
    assert {name.partition("-1")[0] for name in alone.out} == {"toy-chain-a", "toy-chain-b"}
