# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a command runs, and what is refused before a node is asked for. No node is needed."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.conftest import Ended, MakeUser, User

pytestmark = pytest.mark.lab

RECORDER = """\
#!{python}
import os, sys
with open({to!r}, "w") as stream:
    stream.write("\\0".join(sys.argv))
print(os.environ.get("MARK"))
sys.exit(43)
"""


@pytest.fixture(scope="module")
def user(make_user: MakeUser) -> Iterator[User]:
    """Somebody whose remotes do not exist, so that each choice fails with its own name."""
    user = make_user("choosing")
    yield replace(user, options=user.options[:4])
    assert user.nodes() == [], "a node was had for nothing"


def chosen(user: User, *words: str, env: Mapping[str, str] | None = None) -> str:
    """The remote that was looked for: none exists, and the message names it."""
    ended = user.mock(*words, "--chroot", "true", env=env)
    assert ended.code == 3, ended.stderr
    assert ended.stderr.startswith("ERROR: no remote '"), ended.stderr
    return ended.stderr.split("'")[1]


def test_which_remote_is_chosen(user: User) -> None:
    site = user.config.path / "site-defaults.cfg"
    chroot = user.config.chroot_file()
    kept = site.read_text(), chroot.read_text()
    try:
        site.write_text(kept[0] + "config_opts['remote'] = 'of-site'\n")
        assert chosen(user) == "of-site"
        chroot.write_text(kept[1] + "config_opts['remote'] = 'of-{{ releasever }}'\n")
        assert chosen(user) == "of-1"
        assert chosen(user, env={"MOCK_REMOTE": "of-environment"}) == "of-environment"
        assert chosen(user, env={"MOCK_REMOTE": ""}) == "of-1"
        words = ("--remote", "of-words")
        assert chosen(user, *words, env={"MOCK_REMOTE": "of-environment"}) == "of-words"
        assert chosen(user, "--remote=of-word") == "of-word"
        assert chosen(user, "--config-opts", "remote=of-option") == "of-option"
    finally:
        site.write_text(kept[0])
        chroot.write_text(kept[1])


def test_the_users_own_configuration(user: User) -> None:
    """mock finds the home directory in the password database, so that is what is changed here."""
    home = user.place / "somebody"
    (home / ".config/mock").mkdir(parents=True)
    passwd = user.place / "passwd"
    passwd.write_text(f"root:x:0:0:root:{home}:/bin/sh\n")
    with (user.config.path / "site-defaults.cfg").open("a") as defaults:
        defaults.write("config_opts['remote'] = 'of-site'\n")

    def as_somebody(*words: str) -> Ended:
        bind = 'mount --bind "$0" /etc/passwd && exec "$@"'
        argv = user.argv(*words, "--chroot", "true")
        return user.run(["unshare", "--mount", "sh", "-c", bind, str(passwd), *argv])

    assert "no remote 'of-site'" in as_somebody().stderr
    (home / ".config/mock.cfg").write_text("config_opts['remote'] = 'of-user'\n")
    assert "no remote 'of-user'" in as_somebody().stderr
    own = home / f".config/mock/{user.config.chroot()}.cfg"
    own.write_text(user.config.chroot_file().read_text() + "config_opts['remote'] = 'of-own'\n")
    # Though mock reads ~/.config/mock.cfg last: a chroot that names a remote means it.
    assert "no remote 'of-own'" in as_somebody().stderr


def test_without_a_remote_and_without_mock(user: User) -> None:
    for words in (("--no-remote",), ("--config-opts", "remote=")):
        ended = user.mock(*words, "--chroot", "true")
        assert ended.code == 3
        assert "there is no mock on this machine" in ended.stderr
        assert "--remote NAME" in ended.stderr
    both = user.mock("--no-remote", "--remote", "x", "--init")
    assert both.code == 5
    shown = user.mock("--debug-config").expect()
    assert "config_opts['root']" in shown.stdout
    for local, words in ((True, ("--no-remote",)), (False, ("--remote", "local"))):
        printed = user.mock("--print-root-path", *words).expect()
        assert printed.stdout.endswith(f"{user.config.chroot()}/root/\n")
        assert ("--copyout" in printed.stderr) is not local
        assert printed.stdout.count("\n") == 1
    assert (
        user.mock("--print-root-path").expect().stdout.endswith(f"{user.config.chroot()}/root/\n")
    )
    assert user.config.chroot() in user.mock("--list-chroots").expect().stdout


def test_the_real_mock_gets_the_same_words(user: User, tmp_path: Path) -> None:
    record = tmp_path / "argv"
    real = tmp_path / "bin/mock"
    real.parent.mkdir()
    real.write_text(RECORDER.format(python=sys.executable, to=str(record)))
    real.chmod(0o755)
    # First on the PATH is the launcher itself: it must not find itself.
    path = f"{Path(sys.executable).parent}:{real.parent}:{user.environment['PATH']}"
    env = {"PATH": path, "MARK": "kept"}
    name, *options = "mock", *user.options
    for words in (
        ["--no-remote", "--rebuild", "a b.src.rpm", "-D", "x  y"],
        ["--shell", "--", "ls", "--remote", "--no-remote"],
        ["--pm-cmd", "install", "x"],
        ["--enable-plugin", "tmpfs", "--scrub=all"],
    ):
        given = [*words] if "--no-remote" in words[:1] else ["--config-opts", "remote=", *words]
        ended = user.run([*user.argv(*given)], env=env)
        assert (ended.code, ended.stdout) == (43, "kept\n"), ended.stderr
        got, *seen = record.read_text().split("\0")
        assert Path(got) == real
        wanted = [word for n, word in enumerate(given) if (n, word) != (0, "--no-remote")]
        assert seen == [*options, *wanted]
    assert name == real.name
    # A remote that is chosen is not given up because there is a mock here.
    assert user.run(user.argv("--remote", "nowhere", "--init"), env=env).code == 3


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--no-such-option", "x.src.rpm"), 5, "--no-such-option"),
        (("--nochek", "x.src.rpm"), 5, "--nocheck"),
        (("--rootdir", "/tmp/x", "--init"), 50, "--rootdir"),
        (("--isolation", "nonsense", "--init"), 5, "nonsense"),
        (("--forcearch", "s390x", "--init"), 50, "--forcearch"),
        (("--bootstrap-chroot", "--init"), 50, "--bootstrap-chroot"),
        (("--scm-enable", "--scm-option", "package=x", "--buildsrpm"), 50, "--scm"),
        (("--snapshot", "x"), 50, "--snapshot"),
        (("--pm-cmd", "install", "x"), 50, "--pm-cmd"),
        (("--orphanskill",), 50, "--orphanskill"),
        (("--enable-plugin", "compress_logs", "x.src.rpm"), 50, "compress_logs"),
        (("--mount", "--enable-plugin", "overlayfs"), 50, "overlayfs"),
        (("--enable-plugin", "no_such", "--init"), 5, "no_such"),
        (("--install", "--allowerasing", "x"), 5, "--allowerasing"),
        (("--rebuild",), 50, "SRPM"),
        (("--rebuild", "/no/such.src.rpm"), 1, "/no/such.src.rpm"),
        (("--rebuild", "https://lab.invalid/x.src.rpm"), 5, "cannot fetch"),
        (("--rpmbuild_timeout", "soon", "--init"), 5, "soon"),
        (("--chain",), 50, "SRPM"),
        (("--chain", "--resultdir", "x", "y.src.rpm"), 5, "--localrepo"),
        (("--resultdir", "/proc/no", "--init"), 70, "/proc/no"),
        (("-r", "far.cfg", "--init"), 6, "riscv64"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_cannot_be_done_is_refused_by_name(
    user: User, words: tuple[str, ...], code: int, says: str
) -> None:
    (user.place / "far.cfg").write_text(
        "config_opts['root'] = 'far'\nconfig_opts['target_arch'] = 'riscv64'\n"
        "config_opts['legal_host_arches'] = ('riscv64',)\n"
        "config_opts['dnf.conf'] = '[main]\\nreposdir=/dev/null\\n'\n"
    )
    ended = user.mock("--remote", "local", *words)
    assert ended.code == code, ended.stderr
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr
