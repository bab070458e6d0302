# SPDX-License-Identifier: GPL-2.0-or-later
"""`make demo`: README's first block is what it prints, and it leaves a lab to build in."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import background, demo, demo_survive, srpm
from tests.lab.http import FileServer
from tests.lab.layout import Lab, repository_root

pytestmark = pytest.mark.lab


def _normalized(text: str, place: Path) -> list[str]:
    """Lines without what differs from run to run: digests, numbers, and where it was run."""
    text = text.replace(str(place), "<demo>")
    text = re.sub(r"args: .*", "args: <words>", text)
    text = re.sub(r"\b[0-9a-f]{10,}…?", "<digest>", text)
    text = re.sub(r"/\S+/\.lab/demo", "<demo>", text)
    lines = [re.sub(r"\d[\d,.:]*", "<number>", line).rstrip() for line in text.strip().splitlines()]
    # One agent's end and another's beginning are logged in any order.
    stamp = "<number>-<number>-<number>T"
    log = iter(sorted(line for line in lines if line.startswith(stamp)))
    return [next(log) if line.startswith(stamp) else line for line in lines]


@pytest.fixture
def place(lab: Lab, tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "demo"
    yield place
    demo.stop(lab, place)


# The real one takes a minute to configure, make and check.
_HELLO = """\
Name: hello
Version: 2.10
Release: 1%{?dist}
Summary: As GNU hello, to look at
License: CC0-1.0
BuildRequires: gcc

%description
Greets.

%build
echo 'int main(void) { return 0; }' > hello.c
gcc %{optflags} hello.c -o hello

%install
install -D hello %{buildroot}%{_bindir}/hello

%files
%{_bindir}/hello
"""


@pytest.mark.slow
def test_readme_shows_what_it_prints(
    lab: Lab, place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """But for the package, which is one of the same name and files."""
    demo.perform(lab, srpm.build(lab, srpm.Recipe("hello", _HELLO)), place)
    shown = capfd.readouterr().out
    readme = (repository_root() / "README.md").read_text()
    (block,) = re.findall(r"```console\n\$ make demo\n…\n(.*?)```", readme, re.S)
    assert _normalized(shown, place) == _normalized(block, place)
    assert len(shown.splitlines()) < 80  # and what is installed before: under 100 in all

    script = f". {place}/env && mock-cloud nodes && alias mock && curl -sf $URL"
    url = re.search(r"^baseurl=(\S+?)/{{", (place / "etc/mock/templates/lab.tpl").read_text(), re.M)
    assert url is not None
    left = subprocess.run(
        ["sh", "-c", script.replace("$URL", f"{url[1]}/1/repodata/repomd.xml")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "local" in left.stdout and "<repomd" in left.stdout
    demo.stop(lab, place)
    assert not background.stop(place), "it runs still"


@pytest.mark.slow
def test_a_build_survives_a_cut_line_and_a_killed_command(
    lab: Lab, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """`make demo-survive`: it fails where something is lost, twice there, or left."""
    demo_survive.perform(lab, None, tmp_path / "demo")
    shown = capfd.readouterr().out
    assert "reached again after" in shown and "(ended by signal 9)" in shown
    assert "(files there: 0, processes: 0; leases here: 0, jobs: 0)" in shown
    assert len(shown.splitlines()) < 100


def test_a_process_that_is_not_the_server_is_left_alone(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        (tmp_path / "server.pid").write_text(f"{other.pid}\n")
        assert not background.stop(tmp_path)
        assert other.poll() is None
        other.kill()


def test_the_port_of_the_demonstration_can_be_taken_over(lab: Lab, tmp_path: Path) -> None:
    with FileServer({"/dist": lab.dist}) as server:
        port = server.port
    background.start(lab, tmp_path, port)
    try:
        assert (tmp_path / "etc/mock/remotes.d/local.toml").is_file()
    finally:
        assert background.stop(tmp_path)
