# SPDX-License-Identifier: GPL-2.0-or-later
"""The first look before a local build: what it passes on at once, and what it must not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from mock_cloud.launcher import fast_path, scan
from mock_cloud.real_mock import find_real_mock, has_plugin, is_launcher, module_places

# As a packaged mock, it has mock's package in it; prints what it was given.
_REAL = """\
#!{python}
# imports mockbuild
import json, os, sys
seen = {{"argv": sys.argv, "environ": dict(os.environ)}}
lines = open("/proc/self/status").read().splitlines()
seen["ignored"] = [line for line in lines if line.startswith("SigIgn")]
seen["given"] = open("/proc/self/environ").read().split("\\0")
open(os.environ["RECORD"], "w").write(json.dumps(seen))
sys.exit(42)
"""
_PIP = "#!/usr/bin/python3\nimport sys\nfrom mock_cloud.launcher import main\nsys.exit(main())\n"
_SETUP = "#!/usr/bin/python3\n# 'mock-cloud==0.1.0','console_scripts','mock'\n"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Directories for configuration, a home, and programs; the home is this user's."""
    for name in ("etc/templates", "home/.config/mock", "home/.mock", "bin", "other"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "etc/plain.cfg").write_text("include('templates/plain.tpl')\n")
    (tmp_path / "etc/templates/plain.tpl").write_text("config_opts['dist'] = 'x'\n")
    monkeypatch.setattr(scan, "_home", lambda: str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    "words",
    [
        ["--remote", "x"], ["--remote=x"], ["--remot", "x"], ["--no-remote"], ["--no-rem"],
        ["--config-opts", "remote=x"], ["--config-opts=remote=x"], ["--enable-plugin=remote"],
        ["--plugin-option=remote:name='x'"], ["--progress=plain"], ["--jobs", "2"], ["--detach"],
        ["--then", "x"], ["--duplicate=2"], ["-D", "x", "--remote", "y", "--", "z"],
    ],
)  # fmt: skip
def test_words_that_may_mean_a_remote(place: Path, words: list[str]) -> None:
    assert fast_path.may_be_remote(["--configdir", str(place / "etc"), *words], {})


@pytest.mark.parametrize(
    "words",
    [
        [], ["-r", "plain", "--remove", "x"], ["--shell", "--", "--remote", "x"],
        ["-r", "plain", "--option-of-a-newer-mock"], ["--list-chroots"], ["--help"],
        ["-r", "no-such-chroot"], ["-qrplain", "x.src.rpm"],
    ],
)  # fmt: skip
def test_words_that_cannot(place: Path, words: list[str]) -> None:
    given = ["--configdir", str(place / "etc"), *words]
    assert not fast_path.may_be_remote(given, {"MOCK_REMOTE": ""})
    assert fast_path.may_be_remote(given, {"MOCK_REMOTE": "x"})


SAYS = "config_opts['remote'] = 'x'\n"


@pytest.mark.parametrize(
    ("words", "file", "text"),
    [
        (["-r", "plain"], "etc/site-defaults.cfg", SAYS),
        (["-r", "plain"], "etc/chroot-aliases.cfg", SAYS),
        (["-r", "plain"], "home/.config/mock.cfg", SAYS),
        (["-r", "plain"], "home/.mock/user.cfg", SAYS),
        (["-r", "plain"], "etc/plain.cfg", SAYS),
        (["-r", "plain"], "etc/templates/plain.tpl", SAYS),
        (["-r", "plain"], "etc/plain.cfg", f'  include( "{"/dev/../"}dev/null" )\n' + SAYS),
        (["-r", "plain"], "etc/plain.cfg", "include('templates/' + name)\n"),
        (["-r", "plain"], "etc/plain.cfg", "include('templates/a' 'b.tpl')\n"),
        (["-r", "plain"], "etc/plain.cfg", "include(f'x')\n"),
        (["-r", "plain"], "etc/plain.cfg", "exec(opener())\n"),
        (["-r", "plain"], "etc/plain.cfg", "config_opts.update(json.load(open('x')))\n"),
        (["-r", "plain"], "etc/plain.cfg", "from site_choices import *\n"),
        (["-r", "plain"], "etc/plain.cfg", "config_opts['plugin_conf']['remote_enable'] = 1\n"),
        (["-rown"], "home/.config/mock/own.cfg", SAYS),
        (["--root=own"], "home/.config/mock/own.cfg", SAYS),
        (["--roo", "own"], "home/.config/mock/own.cfg", SAYS),
        (["-qr", "own"], "etc/own.cfg", SAYS),
        (["-qrown"], "etc/own.cfg", SAYS),
        (["-r=own"], "etc/own.cfg", SAYS),
        (["-r", "other/far.cfg"], "other/far.cfg", SAYS),
        (["-rother/far.cfg"], "other/far.cfg", SAYS),
        (["--root=other/far.cfg"], "other/far.cfg", "include('templates/own.tpl')\n"),
        ([], "etc/default.cfg", SAYS),
        (["--hermetic-build", "x", "y"], "etc/hermetic-build.cfg", SAYS),
    ],
)
def test_a_configuration_that_may_choose(
    place: Path, words: list[str], file: str, text: str
) -> None:
    write(place / "etc/templates/own.tpl", SAYS)
    given = [f"--configdir={place / 'etc'}", *words]
    plain = [f"--configdir={place / 'etc'}", "-r", "plain"]
    assert not fast_path.may_be_remote(plain, {})
    write(place / file, text)
    assert fast_path.may_be_remote(given, {})


def test_comments_choose_nothing_and_what_cannot_be_read_may(place: Path) -> None:
    words = ["--configd", str(place / "etc"), "-r", "plain"]
    site = write(place / "etc/site-defaults.cfg", "  # config_opts['remote'] = 'x'\n#import x\n")
    assert not fast_path.may_be_remote(words, {})
    write(place / "etc/plain.cfg", "# include('x')\ninclude('plain.cfg')\ninclude('gone.tpl')\n")
    assert not fast_path.may_be_remote(words, {})
    site.unlink()
    site.symlink_to(site.name)
    assert fast_path.may_be_remote(words, {})


def test_it_costs_few_imports() -> None:
    """Not a limit of time, which a busy machine would break, but of what takes the time."""
    show = "import sys, mock_cloud.launcher; print(*sys.modules)"
    environ = {"PYTHONPATH": str(Path(scan.__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-S", "-c", show], env=environ, capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert "mock_cloud.real_mock" in loaded
    assert not loaded & {"argparse", "pathlib", "typing", "re", "mock_cloud.launcher.dispatch"}


def launch(place: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """The launcher with exactly these variables, and a PATH that begins with bin and other."""
    environ = {
        "PATH": f"{place / 'bin'}:{place / 'other'}:/usr/bin:/bin",
        "RECORD": str(place / "record"),
        "PYTHONPATH": os.pathsep.join(sys.path),
        "HOME": str(place / "home"),
        **more,
    }
    argv = [sys.executable, "-m", "mock_cloud.launcher", "--configdir", str(place / "etc"), *words]
    return subprocess.run(
        argv, env=environ, capture_output=True, text=True, timeout=600, check=False
    )


def seen(place: Path) -> Mapping[str, list[str]]:
    import json

    found: Mapping[str, list[str]] = json.loads((place / "record").read_text())
    return found


def test_mock_gets_what_it_would_get_without_us(place: Path) -> None:
    """Words, environment and ignored signals. In a C locale Python would add LC_CTYPE."""
    real = write(place / "bin/mock", _REAL.format(python=sys.executable))
    words = ["-r", "plain", "--new-option", "a b", "", "--", "--remote"]
    assert launch(place, *words, ODD="x\ny", MOCK_REMOTE="").returncode == 42
    ours = seen(place)
    assert ours["argv"] == [str(real), "--configdir", str(place / "etc"), *words]
    environ = {
        name: value
        for name, value in (one.split("=", 1) for one in ours["given"] if one)
        if name not in ("PATH", "RECORD", "PYTHONPATH", "HOME")
    }
    assert environ == {"ODD": "x\ny", "MOCK_REMOTE": ""}
    plain = subprocess.run([str(real)], env={"RECORD": str(place / "record")}, check=False)
    assert plain.returncode == 42
    assert seen(place)["ignored"] == ours["ignored"]


@pytest.mark.parametrize(
    "words", [["--option-of-a-newer-mock", "x"], ["--nochec"], ["--rebuild"], ["--help"],
              ["--conf", "x"], ["--version"], ["-r", "no-such", "--init"]],
    ids=" ".join,
)  # fmt: skip
def test_what_only_mock_understands_is_mocks(place: Path, words: list[str]) -> None:
    """Also where a configuration has to be read, since it speaks of remotes and chooses none."""
    write(place / "bin/mock", _REAL.format(python=sys.executable))
    text = "config_opts['root'] = 'plain'\nconfig_opts['target_arch'] = 'x86_64'\n"
    write(place / "etc/default.cfg", text + "config_opts['remote'] = None\n")
    assert launch(place, *words).returncode == 42
    assert seen(place)["argv"][3:] == words


def test_but_not_where_a_remote_is_chosen(place: Path) -> None:
    write(place / "bin/mock", _REAL.format(python=sys.executable))
    text = "config_opts['root'] = 'plain'\nconfig_opts['target_arch'] = 'x86_64'\n" + SAYS
    write(place / "etc/default.cfg", text)
    for words in (["--option-of-a-newer-mock", "x"], ["--remote", "x", "--new-option"]):
        done = launch(place, *words)
        assert (done.returncode, "unknown option" in done.stderr) == (5, True), done.stderr
    assert launch(place, "--option-of-a-newer-mock", "--config-opts=remote=").returncode == 42
    (place / "record").unlink()
    assert launch(place, "--option-of-a-newer-mock", MOCK_REMOTE="x").returncode == 5
    assert not (place / "record").exists()
    assert launch(place, "--option-of-a-newer-mock", "--no-remote").returncode == 42
    assert "--no-remote" not in seen(place)["argv"]


def test_launchers_are_no_mock(place: Path) -> None:
    """Of two virtual environments, of the RPM, through links, and one that starts another."""
    real = write(place / "usr/bin/mock", _REAL.format(python="/usr/bin/python3"))
    scripts = [
        write(place / "venv1/bin/mock", _PIP),
        write(place / "venv2/bin/mock", _SETUP),
        write(place / "by-hand/mock", '#!/bin/sh\nexec python3 -m mock_cloud.launcher "$@"\n'),
    ]
    link = place / "links/mock"
    link.parent.mkdir()
    link.symlink_to(scripts[0])
    directories = [str(path.parent) for path in (link, *scripts)]
    assert all(map(is_launcher, map(str, (link, *scripts)))) and not is_launcher(str(real))
    assert find_real_mock({"PATH": ":".join(directories)}) is None
    assert find_real_mock({"PATH": ":".join([*directories, str(real.parent)])}) == str(real)


@pytest.mark.parametrize("starts", ["exec ", ""], ids=["exec", "child"])
def test_a_wrapper_that_starts_us_again_is_no_endless_loop(place: Path, starts: str) -> None:
    again = f'{starts}{sys.executable} -m mock_cloud."$LAUNCHER" "$@"\n'
    for name in ("bin", "other"):
        write(place / name / "mock", f"#!/bin/sh\n{again}")
    done = launch(place, "--init", LAUNCHER="launcher")
    assert done.returncode == 3 and "no mock configuration 'default'" in done.stderr
    real = write(place / "usr/mock", _REAL.format(python=sys.executable))
    path = f"{place / 'bin'}:{place / 'other'}:{real.parent}:/usr/bin:/bin"
    assert launch(place, "--init", LAUNCHER="launcher", PATH=path).returncode == 42
    assert not [name for name in seen(place)["environ"] if name.startswith("MOCK_CLOUD")]


def test_a_packaged_mock_and_its_modules(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/usr/bin/mock is a link to consolehelper, and what that starts has its modules elsewhere."""
    from mock_cloud import real_mock

    helper = write(place / "usr/bin/consolehelper", "\x7fELF")
    link = helper.with_name("mock")
    link.symlink_to(helper.name)
    monkeypatch.setattr(real_mock, "_APPLICATIONS", str(place / "apps"))
    monkeypatch.setattr(real_mock, "_LIBRARIES", (str(place / "usr/lib"),))
    write(place / "usr/bin/python3.12", "")
    (place / "usr/bin/python3").symlink_to("python3.12")
    program = write(place / "libexec/mock", f"#!{place}/usr/bin/python3 -tt\nimport mockbuild\n")
    write(place / "apps/mock", f"USER=root\nPROGRAM={program}\nSESSION=false\n")
    assert find_real_mock({"PATH": str(link.parent)}) == str(link)
    assert str(place / "usr/lib/python3.12/site-packages") in module_places(str(link))
    # Of a Python that mock does not run under: left behind by an upgrade.
    write(place / "usr/lib/python3.11/site-packages/mockbuild/plugins/remote.py", "")
    assert not has_plugin(str(link))
    write(place / "usr/lib/python3.12/site-packages/mockbuild/plugins/remote.py", "")
    assert has_plugin(str(link))
