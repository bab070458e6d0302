# SPDX-License-Identifier: GPL-2.0-or-later
"""dnf.conf read as dnf reads it: each rule is tried with the dnf of this machine, if it has one."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from mock_cloud.wire.dnf_conf import (
    SEPARATORS,
    DnfConfError,
    dnf_variables,
    expand,
    parse_dnf_conf,
    read_repositories,
    rewrite_options,
)

VARIABLES = dnf_variables("9", "x86_64", {})
X = "[x]\nname=x\nbaseurl=http://h/\n"

READ: dict[str, list[tuple[str, list[str], bool, bool]]] = {
    # Which are enabled: true words, false words; anything else is as if it were not there.
    X + "enabled=YES\n": [("x", ["http://h/"], True, False)],
    X + "enabled = on\n": [("x", ["http://h/"], True, False)],
    X + "enabled=2\n": [("x", ["http://h/"], True, False)],
    X + "enabled=\n": [("x", ["http://h/"], True, False)],
    X + "enabled=0 # no\n": [("x", ["http://h/"], True, False)],
    X + "enabled=Off\n": [],
    X + "enabled=0\nenabled=1\n": [("x", ["http://h/"], True, False)],
    X + "[x]\nenabled=0\n": [],
    "[main]\nenabled=0\n" + X: [],
    "[main]\nenabled=0\n" + X + "enabled=2\n": [],
    # What a repository has from [main], wherever that stands, and what it has not.
    X + "[main]\nsslverify=0\nskip_if_unavailable=1\n": [("x", ["http://h/"], False, True)],
    "[main]\nsslverify=0\n" + X + "sslverify=7\n": [("x", ["http://h/"], False, False)],
    "[main]\nbaseurl=http://m\n[x]\nname=x\n": [("x", [], True, False)],
    # Variables, in ids too.
    "[x-$basearch-${releasever}]\nname=x\nbaseurl=http://h\n": [
        ("x-x86_64-9", ["http://h"], True, False)
    ],
    "[x]\nname=x\nbaseurl=http://h/${releasever}/$foo/$releaseverx/$$arch\n": [
        ("x", ["http://h/9/$foo/$releaseverx/$x86_64"], True, False)
    ],
    # Lines that continue a value; names of options count to the letter.
    "[x]\nname=x\nbaseurl=http://h,\n\thttp://i\n  http://j\n": [
        ("x", ["http://h", "http://i", "http://j"], True, False)
    ],
    "[x]\nname=x\nBaseURL=http://h\n": [("x", [], True, False)],
    "[x]\nname=x\nbaseurl=http://h/ # c\n": [("x", ["http://h/", "#", "c"], True, False)],
    "   \n# c\n; d\n[x] # e\nname=x\n\nbaseurl=http://h\n# f\n   \n": [
        ("x", ["http://h"], True, False)
    ],
    "[x]\r\nname=x\r\nbaseurl=http://h\r\n": [("x", ["http://h"], True, False)],
    X + "[DEFAULT]\nname=d\nbaseurl=%(x)s\n": [
        ("x", ["http://h/"], True, False),
        ("DEFAULT", ["%(x)s"], True, False),
    ],
}
REFUSED = (
    "baseurl=http://h\n",
    "[x\nname=x\n",
    "[]\nname=x\n",
    "[x] more\nname=x\n",
    "[x]\n name=x\n",
    X + "novalue\n",
    X + "=1\n",
    X + "enabled: 0\n",
    X + "# c\n  http://i\n",
    X + "\n  http://i\n",
)
DNF = """
import json, sys, dnf
answers = []
for text in json.load(sys.stdin):
    with open(sys.argv[1], "w", newline="") as conf:
        conf.write(text)
    base = dnf.Base()
    base.conf.config_file_path, base.conf.reposdir = sys.argv[1], [sys.argv[1] + ".d"]
    base.conf.substitutions.update({"releasever": "9", "arch": "x86_64", "basearch": "x86_64"})
    try:
        base.conf.read()
        base.read_all_repos()
    except dnf.exceptions.ConfigError:
        answers.append(None)
        continue
    answers.append([
        [one.id, [url for url in one.baseurl if url], one.sslverify, one.skip_if_unavailable]
        for one in base.repos.iter_enabled()
    ])
json.dump(answers, sys.stdout)
"""


def read(text: str) -> list[tuple[str, list[str], bool, bool]]:
    return [
        (
            one.id,
            [word for word in SEPARATORS.split(expand(one.get("baseurl"), VARIABLES))[::2] if word],
            one.is_set("sslverify", default=True),
            one.is_set("skip_if_unavailable"),
        )
        for one in read_repositories(text, VARIABLES)
    ]


@pytest.mark.parametrize("text", READ)
def test_what_dnf_reads_is_read_so(text: str) -> None:
    assert read(text) == READ[text]


@pytest.mark.parametrize("text", REFUSED)
def test_what_dnf_refuses_is_refused(text: str) -> None:
    with pytest.raises(DnfConfError, match="line"):
        parse_dnf_conf(text)
    with pytest.raises(DnfConfError, match="line"):
        rewrite_options(text, lambda section, option, value: value)


@pytest.mark.parametrize("text", READ)
def test_what_is_not_changed_stays_to_the_byte(text: str) -> None:
    assert rewrite_options(text, lambda section, option, value: value) == text


def test_this_machines_dnf_does_the_same(tmp_path: Path) -> None:
    python = Path("/usr/bin/python3")
    if subprocess.run([python, "-c", "import dnf"], capture_output=True, check=False).returncode:
        pytest.skip("needs dnf 4 and its Python module")
    done = subprocess.run(
        [python, "-c", DNF, str(tmp_path / "dnf.conf")],
        input=json.dumps([*READ, *REFUSED]), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, check=True,
    )  # fmt: skip
    answers = json.loads(done.stdout)
    for text, answer in zip([*READ, *REFUSED], answers, strict=True):
        mine = [list(one) for one in READ[text]] if text in READ else None
        assert answer == mine, text


@pytest.mark.parametrize(
    ("arch", "base"),
    [
        ("i686", "i386"),
        ("athlon", "i386"),
        ("amd64", "x86_64"),
        ("x86_64_v3", "x86_64"),
        ("armv7hl", "armhfp"),
        ("armv7l", "arm"),
        ("aarch64", "aarch64"),
        ("riscv64", "riscv64"),
    ],
)
def test_basearch(arch: str, base: str) -> None:
    assert dnf_variables("", arch, {})["basearch"] == base
    assert dnf_variables("", arch, {"basearch": "mine"})["basearch"] == "mine"


def test_switches_name_ids_and_count_in_order() -> None:
    text = "[x-$basearch]\nbaseurl=http://h\nenabled=0\n[y]\nbaseurl=http://h\n"

    def ids(*switches: tuple[str, str]) -> list[str]:
        return [one.id for one in read_repositories(text, VARIABLES, switches)]

    assert ids() == ["y"]
    assert ids(("--enablerepo", "x-x86_64")) == ["x-x86_64", "y"]
    assert ids(("--enablerepo", "x*"), ("--disablerepo", "y, x-*")) == []
