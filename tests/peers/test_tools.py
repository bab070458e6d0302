# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs that build in mock: each ends with real mock as it ends with each engine."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.lab.http import FileServer
from tests.lab.layout import Lab
from tests.peers import document, fedora_review, venvs
from tests.peers.sides import ROOT, Played, Side

pytestmark = [pytest.mark.lab, pytest.mark.slow]

_SPEC = """\
Name: toy-peer
Version: 1
Release: 1%{?dist}
Summary: A toy
License: CC0-1.0
BuildArch: noarch
Source0: toy-peer-%{version}.tar.gz
%description
A package to try programs with.
%prep
%setup -q
%install
install -D -m 644 toy.txt %{buildroot}%{_datadir}/toy-peer/toy.txt
%files
%{_datadir}/toy-peer
%changelog
* Tue Nov 14 2023 Lab <lab@lab.invalid> - 1-1
- First
"""

Play = Callable[[Side, Path], Played]


def _checkout(variable: str) -> Path:
    """The checkout that an environment variable names; skips the test where it names none."""
    name = f"MOCK_CLOUD_TEST_{variable}"
    if not os.environ.get(name):
        pytest.skip(f"needs a checkout: make test-peers {variable}=…, or {name}")
    return Path(os.environ[name])


def _compare(title: str, about: str, sides: Mapping[str, Side], play: Play) -> Mapping[str, Played]:
    """Play a peer on all sides; it must end alike, call by call, and leave the same packages."""
    scratch = {name: sides[name].scratch(re.sub(r"\W+", "-", title)) for name in sides}
    with ThreadPoolExecutor(len(sides)) as pool:
        ended = pool.map(lambda name: play(sides[name], scratch[name]), sides)
        played = dict(zip(sides, ended, strict=True))
    keep = os.environ.get("KEEP")
    if keep:
        for name, one in played.items():
            calls = "\n".join(map(str, one.calls))
            (Path(keep) / f"{title}-{name}").write_text(f"{one.code}\n{calls}\n{one.output}")
    places = {name: [(str(scratch[name]), "…"), (str(sides[name].place), "…")] for name in sides}
    document.write_section(title, f"{about}\n\n{document.calls(played, places)}")
    here = played["local"]
    assert here.calls and here.code == 0, here.output
    expected = _packages(scratch["local"])
    for name, one in played.items():
        assert (one.code, [call.code for call in one.calls]) == (
            here.code,
            [call.code for call in here.calls],
        ), f"{name}: {one.output}"
        assert _packages(scratch[name]) == expected
    return played


def _packages(place: Path) -> set[str]:
    return {path.name for path in place.rglob("*.rpm")}


def _git(directory: Path, *words: str) -> None:
    who = ("-c", "user.name=lab", "-c", "user.email=lab@lab.invalid")
    subprocess.run(["git", *who, *words], cwd=directory, check=True, capture_output=True)


def _source(directory: Path, version: str = "1") -> Path:
    """toy-peer's tarball in `directory`."""
    tree = directory / f"toy-peer-{version}"
    tree.mkdir()
    (tree / "toy.txt").write_text(f"{version}\n")
    made = directory / f"{tree.name}.tar.gz"
    # The same on all sides: a review has its digest.
    subprocess.run(
        ["tar", "--mtime=@1700000000", "-czf", made, tree.name], cwd=directory, check=True
    )
    shutil.rmtree(tree)
    return made


def _repository(place: Path, files: Mapping[str, str]) -> Path:
    """A git repository of `files` (name → text) that anybody may use."""
    made = place / "toy-peer"
    made.mkdir()
    for name, text in files.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(text)
    _git(made, "init", "-q", "-b", "main")
    _git(made, "add", ".")
    _git(made, "commit", "-q", "-m", "Import")
    return made


def _safe(side: Side) -> None:
    (side.home / ".gitconfig").write_text(
        "[safe]\ndirectory = *\n[user]\nname = lab\nemail = lab@lab.invalid\n"
    )


def test_tito(lab: Lab, warm_sides: Mapping[str, Side]) -> None:
    """A tag, then a build whose packages are copied out of the chroot."""
    checkout = _checkout("TITO")
    python = venvs.make(lab, "tito", "blessed", "requests") / "bin/python"

    def play(side: Side, place: Path) -> Played:
        _safe(side)
        tree = _repository(place, {"toy.txt": "toy\n", "toy-peer.spec": _SPEC})
        tito = [
            str(python),
            "-c",
            "import sys; from tito.cli import CLI; CLI().main(sys.argv[1:])",
        ]
        env = {"PYTHONPATH": str(checkout / "src")}
        for words in (["init"], ["tag", "--accept-auto-changelog", "--keep-version"]):
            ended = side.run([*tito, *words], cwd=tree, env=env, as_user=True)
            assert ended.code == 0, ended.output
        words = ["build", "--rpm", "--builder", "mock", "--arg", f"mock={ROOT}"]
        words += ["-o", str(place / "built")]
        return side.run([*tito, *words], cwd=tree, env=env, as_user=True)

    _compare("tito", "`tito build --rpm --builder mock`.", warm_sides, play)


def test_fedpkg(lab: Lab, warm_sides: Mapping[str, Side]) -> None:
    """The remote is chosen by the variable, by $MOCKARGS and in ~/.config/mock.cfg."""
    checkout = _checkout("FEDPKG")
    python = venvs.make(lab, "fedpkg", *_FEDPKG_NEEDS) / "bin/python"

    def play(side: Side, place: Path) -> Played:
        _safe(side)
        tree = _repository(place, {"toy-peer.spec": _SPEC, "sources": ""})
        _source(tree)
        for words in (
            ("branch", "-m", "f43"),
            ("remote", "add", "origin", "ssh://lab@127.0.0.1:1/rpms/toy-peer"),
            ("config", "branch.f43.remote", "origin"),
            ("config", "branch.f43.merge", "refs/heads/f43"),
        ):
            _git(tree, *words)
        program = place / "fedpkg"  # as pip would install it
        program.write_text("from fedpkg.__main__ import main\nmain()\n")
        config = checkout / "conf/etc/rpkg/fedpkg.conf"
        script = _FEDPKG.format(
            mockbuild=f"{python} {program} -C {config} mockbuild --root {ROOT}",
            arguments="" if side.name == "local" else "--remote local",
        )
        with side.without_remote():
            return side.run(["sh", "-ec", script], cwd=tree, env={"PYTHONPATH": str(checkout)},
                            as_user=True)  # fmt: skip

    about = "`fedpkg mockbuild`: the remote by `MOCK_REMOTE`, by `MOCKARGS`, then by mock.cfg."
    played = _compare("fedpkg", about, warm_sides, play)
    for name, one in played.items():
        assert "in the shell: toy-peer-1-1.lab1.noarch.rpm" in one.output
        trusted = 0 if name == "local" else len(one.calls)
        assert one.output.count("node trusted") == trusted


_FEDPKG_NEEDS = ("rpkg==1.59", "python-bugzilla", "openidc-client", "distro", "setuptools<80")
_FEDPKG = """\
MOCK_REMOTE=local {mockbuild}
MOCKARGS="{arguments}" {mockbuild}
mkdir -p ~/.config
echo "config_opts['remote'] = 'local'" > ~/.config/mock.cfg
{mockbuild} -N
echo 'echo in the shell: $(ls /builddir/build/RPMS)' | {mockbuild} --shell
rm ~/.config/mock.cfg
"""


def test_packit(lab: Lab, warm_sides: Mapping[str, Side]) -> None:
    packit = venvs.make(lab, "packit", "packitos==1.17.0") / "bin/packit"

    def play(side: Side, place: Path) -> Played:
        _safe(side)
        files = {
            "toy.txt": "toy\n",
            "toy-peer.spec": _SPEC,
            ".packit.yaml": "specfile_path: toy-peer.spec\nupstream_package_name: toy-peer\n"
            "downstream_package_name: toy-peer\nupstream_tag_template: 'v{version}'\n",
        }
        tree = _repository(place, files)
        _git(tree, "tag", "v1")
        words = ["build", "in-mock", "--release-suffix", "lab", "-r", ROOT]
        words = [*words, "--resultdir", place / "results", "."]
        return side.run([packit, *words], cwd=tree, as_user=True)

    _compare("packit", "`packit build in-mock`, packitos from PyPI.", warm_sides, play)


def test_rebase_helper(lab: Lab, warm_sides: Mapping[str, Side], place: Path) -> None:
    """From version 1 to 2, each built in mock; `pkexec` gives mock an environment of its own."""
    program = venvs.make(lab, "rebase-helper", "rebasehelper==0.29.7") / "bin/rebase-helper"
    upstream = place / "upstream"
    upstream.mkdir()
    for version in ("1", "2"):
        _source(upstream, version)
    with FileServer({"/upstream": upstream}) as server:

        def play(side: Side, place: Path) -> Played:
            _safe(side)
            side.install("pkexec", _PKEXEC.format(path=side.environment["PATH"]))
            url = f"{server.url}/upstream/toy-peer-%{{version}}.tar.gz"
            spec = _SPEC.replace("Source0: toy-peer-%{version}.tar.gz", f"Source0: {url}")
            tree = _repository(place, {"toy-peer.spec": spec})
            words = ["--buildtool", "mock", "--builder-options", f"-r {ROOT}", "--non-interactive"]
            words += ["--srpm-buildtool", "mock", "--srpm-builder-options", f"-r {ROOT}"]
            words += ["--pkgcomparetool", "", "--apply-changes", "2"]
            return side.run([program, *words], cwd=tree, as_user=True)

        _compare("rebase-helper", "rebase-helper from PyPI, version 1 to 2.", warm_sides, play)


# As polkit's: next to nothing of the caller's environment. The mock that the mock engine sends is
# where polkit's PATH ends with /root/bin.
_PKEXEC = """\
#!/bin/sh
exec env -i PATH={path} HOME="$HOME" SHELL=/bin/sh \\
    XDG_STATE_HOME="$XDG_STATE_HOME" XDG_CACHE_HOME="$XDG_CACHE_HOME" "$@"
"""


def test_copr_rpmbuild(lab: Lab, warm_sides: Mapping[str, Side], place: Path) -> None:
    """A source package by a script in the chroot, then packages of a dist-git repository."""
    checkout = _checkout("COPR")
    names = (
        "backoff",
        "munch",
        "specfile",
        "python-daemon",
        "requests",
        "jinja2",
        "PyYAML",
        "norpm",
    )
    python = venvs.make(lab, "copr", *names, "setuptools<80") / "bin/python"
    overrides = place / "copr"  # of macros, for distributions other than the builder's
    overrides.mkdir()
    (overrides / "none.json").write_text("{}")

    def play(side: Side, place: Path) -> Played:
        _safe(side)
        side.install("unbuffer", '#!/bin/sh\nexec "$@"\n')
        side.install("rsync", '#!/bin/sh\nexec cp -rL "$2/." "$3"\n')
        side.install("dist-git-client", "#!/bin/sh\nexit 0\n")
        shutil.copy("/usr/bin/tar", side.place / "tar")
        side.install("tar", _FEDORAS_TAR.format(tar=side.place / "tar"))
        for name in ("copr-sources-custom", "copr-rpmbuild-loggify"):
            side.install(name, (checkout / "rpmbuild/bin" / name).read_text())
        tree = _repository(place, {"toy-peer.spec": _SPEC})
        _source(tree)
        _git(tree, "add", ".")
        _git(tree, "commit", "-q", "-m", "Source")
        run = place / "run"
        run.mkdir()
        for name in ("mock.cfg.j2", "mock-custom-build.cfg.j2", "mock-source-build.cfg.j2"):
            shutil.copy(checkout / "rpmbuild" / name, run)
        for name in ("srpm", "rpm", "workspace"):
            (place / name).mkdir()
            (place / name).chmod(0o777)
        source = {"chroot": ROOT, "script": _SCRIPT, "builddeps": "psmisc", "resultdir": "out"}
        tasks = {
            "srpm": {"source_type": 9, "source_json": json.dumps(source), "task_id": "1",
                     "distributions_in_build": ["lab-1"]},
            "rpm": {"git_repo": str(tree), "git_hash": "main", "task_id": f"1-{ROOT}"},
        }  # fmt: skip
        common = {"project_owner": "lab", "project_name": "toys", "package_name": "toy-peer",
                  "repos": [], "chroot": ROOT, "buildroot_pkgs": [], "enable_net": False,
                  "fedora_review": False}  # fmt: skip
        script = ""
        for kind, task in tasks.items():
            (run / f"{kind}.json").write_text(json.dumps({**common, **task}))
            (run / f"{kind}.ini").write_text(
                f"[main]\nresultdir = {place / kind}\nworkspace = {place / 'workspace'}\n"
                f"lockfile = {run / 'lock'}\nlogfile = {run / 'main.log'}\n"
                f"pidfile = {run / 'pid'}\n"
                f"logger_pidfile = {run / 'logger'}\nfrontend_url = http://127.0.0.1:1\n"
                f"macro_override_db_url = {server.url}/copr/none.json\n"
                "[distgit0]\ndistgit_hostname_pattern = lab\n"
            )
            kinds = "--srpm" if kind == "srpm" else f"--rpm -r {ROOT}"
            script += f"{python} {checkout}/rpmbuild/main.py -c {kind}.ini {kinds}"
            script += f" --task-file {kind}.json && "
        path = f"{checkout}/common:{checkout}/rpmbuild"
        return side.run(
            ["sh", "-c", f"{script} :"], cwd=run, env={"PYTHONPATH": path}, as_user=True
        )

    about = "`copr-rpmbuild --srpm` with the custom source method, then `copr-rpmbuild --rpm`."
    with FileServer({"/copr": overrides}) as server:
        _compare("copr-rpmbuild", about, warm_sides, play)


# Which takes what is to be extracted for a pattern.
_FEDORAS_TAR = """\
#!/bin/sh
test "$1" = xf || exec {tar} "$@"
shift
exec {tar} --wildcards -xf "$@"
"""
_SCRIPT = f"""\
#!/bin/sh -e
mkdir -p out toy-peer-1
echo toy > toy-peer-1/toy.txt
tar -czf out/toy-peer-1.tar.gz toy-peer-1
cat > out/toy-peer.spec <<'EOF'
{_SPEC}EOF
"""


def test_fedora_review(lab: Lab, warm_sides: Mapping[str, Side]) -> None:
    """Its review is the same whichever mock it calls: licences, too, which it looks for itself."""
    checkout = _checkout("FEDORA_REVIEW")
    python = venvs.make(lab, "fedora-review", *_FEDORA_REVIEW_NEEDS) / "bin/python"
    program = fedora_review.make(checkout, lab.root / "peers/fedora-review-program")

    def play(side: Side, place: Path) -> Played:
        _safe(side)
        for name, text in fedora_review.STANDINS.items():
            side.install(name, text)
        side.install("sh", _BASH)  # as Fedora's: to another, "&>" starts a mock beside the next
        _source(place)
        (place / "toy-peer.spec").write_text(_SPEC)
        made = ["rpmbuild", "-bs", "--quiet", "--define", f"_sourcedir {place}", "--define"]
        subprocess.run(
            [*made, f"_srcrpmdir {place}", str(place / "toy-peer.spec")],
            check=True,
            capture_output=True,
        )
        env = {"REVIEW_NO_MOCKGROUP_CHECK": "1"}
        # One check of it asks a server of Fedora's that is no more.
        words = ["-x", "CheckNoNameConflict", "-n", "toy-peer", "-m", ROOT]
        return side.run([python, "-W", "ignore", program, *words], cwd=place, env=env, as_user=True)

    about = (
        "`fedora-review -n`, of a package here. The reviews are the same; it looks for licences in"
    )
    about += "\nthe directory of the chroot, where `copy_builddir_mib` has a copy (decision 0097)."
    played = _compare("fedora-review", about, warm_sides, play)
    reviews = {name: _review(side) for name, side in warm_sides.items()}
    assert "Checkingpatchedsources" in reviews["local"]
    for name in warm_sides:
        assert reviews[name] == reviews["local"]
    assert len(played["local"].calls) > 15


def _review(side: Side) -> str:
    """Its review without blanks: lines are broken by length, and have paths of the side's."""
    text = (side.place / "scratch/fedora-review/review-toy-peer/review.txt").read_text()
    text = "".join(text.split())
    for own, name in ((str(side.place), "<side>"), (side.root, ROOT)):
        text = text.replace(own, name)
    return text


_BASH = '#!/bin/bash\nexec -a sh /bin/bash "$@"\n'
_FEDORA_REVIEW_NEEDS = ("straight.plugin", "beautifulsoup4", "requests", "setuptools<80")


def test_dlrn(lab: Lab, warm_sides: Mapping[str, Side]) -> None:
    """Its driver for mock, which calls /usr/bin/mock by this name and installs what was built."""
    checkout = _checkout("DLRN")
    python = venvs.make(lab, "dlrn", *_DLRN_NEEDS) / "bin/python"

    def play(side: Side, place: Path) -> Played:
        built = place / "built"
        built.mkdir()
        built.chmod(0o777)
        _source(place)
        (place / "toy-peer.spec").write_text(_SPEC)
        made = ["rpmbuild", "-bs", "--define", f"_sourcedir {place}", "--define"]
        subprocess.run(
            [*made, f"_srcrpmdir {built}", str(place / "toy-peer.spec")],
            check=True,
            capture_output=True,
        )
        (place / "mock.cfg").write_text(f"include('/etc/mock/{ROOT}.cfg')\n")
        env = {"PYTHONPATH": str(checkout), "MOCK_CONFIG": "mock.cfg", "PBR_VERSION": "0"}
        return side.run(
            [python, "-c", _DLRN, str(place), str(built)], cwd=place, env=env, as_user=True
        )

    played = _compare(
        "DLRN", "Its `MockBuildDriver`, with `install_after_build`.", warm_sides, play
    )
    assert all("postinstall" in " ".join(one.calls[0].words) for one in played.values())


_DLRN_NEEDS = ("sh<2.0.0", "six", "PyYAML", "pbr", "setuptools<80", "SQLAlchemy<2", "alembic")
_DLRN_NEEDS += ("stevedore", "distroinfo", "rdopkg", "pymod2pkg")
# What dlrn.shell does with the driver that a project's configuration names.
_DLRN = """\
import sys
from types import SimpleNamespace
from dlrn.drivers.mockdriver import MockBuildDriver
options = SimpleNamespace(datadir=sys.argv[1], install_after_build=True)
MockBuildDriver(cfg_options=options).build_package(output_directory=sys.argv[2], verbose=True)
"""

Line = Sequence[str]


def _lines(place: Path) -> Mapping[str, Sequence[Line]]:
    """Command lines as scripts have them, one after the other, by the script's project."""
    spec, sources, package = (
        f"{place}/toy-peer.spec",
        f"{place}",
        f"{place}/srpm/toy-peer-1-1.lab1.src.rpm",
    )
    result, srpm = f"{place}/result", f"{place}/srpm"
    return {
        "anda": (
            ("-r", ROOT, "--buildsrpm", "--spec", spec, "--sources", sources, "--resultdir", srpm,
             "--enable-network", "--config-opts", "external_buildrequires=True"),
            ("-r", ROOT, "--rebuild", package, "--resultdir", result, "--enable-network",
             "--config-opts", "external_buildrequires=True", "--verbose", "-D", "anda 1",
             "--no-cleanup-after"),
        ),
        "ros_buildfarm": (
            ("--root", ROOT, "--init", "--resultdir", srpm),
            ("--root", ROOT, "--resultdir", srpm, "--no-cleanup-after", "--buildsrpm", "--sources",
             sources, "--spec", spec),
            ("--root", ROOT, "--resultdir", result, "--no-cleanup-after", "--rebuild", package,
             "--define", "dist_suffix .20260101"),
            ("--root", ROOT, "--print-root-path"),
            ("--root", ROOT, "--quiet", "--chroot", "--", "ls", "/builddir/build/BUILD"),
        ),
        # As its FedoraReview/mock.py makes them; %(…)s of a review of one package.
        "fedora-review": (
            ("--version",),
            ("-r", ROOT, f"--resultdir={result}", "-q", "--chroot", "--", "rpm --eval %_topdir"),
            ("-r", ROOT, f"--resultdir={result}", "--chroot", "--",
             "rm -rf $(rpm --eval %_builddir)/*"),
            ("-r", ROOT, f"--resultdir={result}", "--rebuild", package),
            ("-r", ROOT, f"--resultdir={result}", "--init"),
            ("-r", ROOT, f"--resultdir={result}", "--chroot", "--", "rpm -q psmisc &>/dev/null"),
            ("-r", ROOT, f"--resultdir={result}", "--shell", "'rm -f /var/lib/rpm/__db*'"),
            ("-r", ROOT, f"--resultdir={result}", "install", "psmisc",
             f"{result}/toy-peer-1-1.lab1.noarch.rpm"),
            ("-r", ROOT, f"--resultdir={result}", "--chroot", "--", "rpm -q psmisc &>/dev/null"),
            ("-r", ROOT, f"--resultdir={result}", "--quiet", "--chroot", "--",
             'rpm --eval "%dist %fedora %epel %buildarch %_libdir %_isa %arch"'),
            ("-r", ROOT, f"--resultdir={result}", "--copyin", package, "toy-peer.src.rpm"),
            ("-r", ROOT, f"--resultdir={result}", "--chroot", "--",
             "rpm -i toy-peer.src.rpm; rpmbuild --nodeps -bp $(rpm --eval %_specdir)/toy-peer.spec;"
             "chmod -R  go+r  $(rpm --eval %_builddir)/* || :"),
            ("-r", ROOT, f"--resultdir={result}", "--chroot",
             "echo 'rpmlint:'; rpm -qa toy-peer; echo 'rpmlint-done:'"),
        ),
        "glusterfs, osbuild, Jenkins": (
            ("-r", ROOT, "--config-opts=cleanup_on_success=False", "--resultdir", result,
             "--with=gnfs", "--rebuild", package),
            ("-r", ROOT, "--no-bootstrap-chroot", "--resultdir", result, "--with", "tests",
             "--define", "commit 0123456", package),
            ("-r", ROOT, "--old-chroot", "--clean"),
            ("-r", ROOT, "--clean", "--init", "--quiet"),
            ("-r", ROOT, "--install", "psmisc"),
            ("-r", ROOT, "--copyin", spec, "/tmp/toy-peer.spec"),
            ("-r", ROOT, "--shell", "test -s /tmp/toy-peer.spec && rpm -q psmisc"),
            ("-r", ROOT, "--chroot", "false"),
            ("-r", ROOT, "--copyout", "/tmp/toy-peer.spec", f"{place}/out.spec"),
            ("-r", ROOT, "--scrub=all"),
        ),
    }  # fmt: skip


@pytest.mark.parametrize("project", _lines(Path("/")))
def test_command_lines(project: str, warm_sides: Mapping[str, Side]) -> None:
    def play(side: Side, place: Path) -> Played:
        _source(place)
        (place / "toy-peer.spec").write_text(_SPEC)
        for name in ("srpm", "result"):
            (place / name).mkdir()
            (place / name).chmod(0o777)
        lines = _lines(place)
        if project != "anda":  # which makes the source package
            ended = side.run(["mock", *lines["anda"][0]])
            assert ended.code == 0, ended.output
        code = "import json, subprocess, sys\nfor line in json.loads(sys.argv[1]):\n"
        code += "    subprocess.run(['mock', *line])\n"
        if project == "ros_buildfarm":
            code += _LOOK
        played = side.run(["python3", "-c", code, json.dumps(lines[project])], cwd=place)
        looks[side.name] = [line for line in played.output.splitlines() if line.startswith("BUILD")]
        return played

    looks: dict[str, list[str]] = {}
    _compare(
        f"{project}: command lines", "As their scripts have them, in sequence.", warm_sides, play
    )
    assert looks["chroot"] == looks["mock"] == looks["local"]
    assert ("BUILD toy-peer-1 toy.txt 1" in looks["local"]) == (project == "ros_buildfarm")


# What it does with the path that was printed: it reads package.xml in the first directory of BUILD.
_LOOK = f"""
import os
from pathlib import Path
words = ["mock", "--root", "{ROOT}", "--print-root-path"]
top = subprocess.run(words, stdout=subprocess.PIPE, text=True).stdout.strip()
build = os.path.join(top, "builddir", "build", "BUILD")
for first in sorted(os.listdir(build)):
    for name in sorted(os.listdir(os.path.join(build, first))):
        print("BUILD", first, name, Path(build, first, name).read_text().strip())
"""
