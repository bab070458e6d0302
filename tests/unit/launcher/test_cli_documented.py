# SPDX-License-Identifier: GPL-2.0-or-later
"""Each command line that a page, a manual or a help text shows is one that the programs take."""

from __future__ import annotations

import argparse
import functools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from mock_cloud.cli.verbs import make_parser
from mock_cloud.errors import MockCloudError
from mock_cloud.invocation.options import EPILOG
from mock_cloud.invocation.parser import parse_command_line
from tests.lab.layout import repository_root

TOP = repository_root()
PAGES = [
    TOP / "README.md",
    *sorted(TOP.glob("docs/*.md")),
    *sorted(TOP.glob("docs/decisions/*.md")),
    *sorted(TOP.glob("mock-plugins/*.md")),
    *sorted(TOP.glob("docs/man/*")),
]
_PROGRAMS = ("mock", "mock-cloud")
_parser = functools.cache(make_parser)


def _blocks(path: Path) -> Iterator[str]:
    """The examples of a page, each one's lines as they stand there."""
    text = path.read_text()
    if path.suffix == ".md":
        # Fenced blocks, and those that are indented by four.
        yield from re.findall(r"^ *```[a-z]*\n(.*?)^ *```", text, re.M | re.S)
        yield "\n".join(line[4:] for line in text.splitlines() if line.startswith("    "))
    else:
        for block in re.findall(r"^\.nf\n(.*?)^\.fi", text, re.M | re.S):
            yield block.replace("\\-", "-").replace("\\e", "\\")


def _commands(block: str) -> Iterator[list[str]]:
    """The command lines among the lines: without prompt, comment, variables and redirections."""
    # A line that goes on does so after one blank; after more of them there is an explanation.
    for text in re.sub(r" *\\\n\s*", " ", block).splitlines():
        line = re.sub(r"^\s*[$#] ", "", text).strip()
        try:
            words = shlex.split(re.split(r"\s+#\s|\s*[|>;]\s|\s{2}", f"{line} ")[0])
        except ValueError:
            continue  # prose
        while words and re.match(r"[A-Z_]+=", words[0]):
            del words[0]
        if words[:2] == ["sudo", "-u"]:
            del words[:3]
        if words and words[0] in _PROGRAMS:
            yield words


def _examples(epilog: str) -> str:
    """Those of a help text: on one line, or indented below a heading."""
    said = re.findall(r"^examples?: (.+)", epilog, re.M)
    return "\n".join(
        [*"; ".join(said).split("; "), *re.findall(r"^ +(mock(?:.*\\\n)*.*)", epilog, re.M)]
    )


def _helps(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    yield parser.prog, parser.epilog or ""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for verb in action.choices.values():
                yield from _helps(verb)


SHOWN = [
    *(
        (path.name, words)
        for path in PAGES
        for block in _blocks(path)
        for words in _commands(block)
    ),
    *(
        (f"{prog} --help", words)
        for prog, epilog in (*_helps(_parser("")), ("mock --help", EPILOG))
        for words in _commands(_examples(epilog))
    ),
]


@pytest.mark.parametrize(
    ("where", "words"),
    [pytest.param(where, words, id=f"{where}: {shlex.join(words)}") for where, words in SHOWN],
)
def test_what_is_shown_is_taken(where: str, words: list[str]) -> None:
    program, *rest = words
    try:
        if program == "mock":
            parse_command_line(rest, {})
        else:
            _parser(rest[0] if rest else "").parse_args(rest)
    except SystemExit as ended:
        assert ended.code == 0, where
    except MockCloudError as error:
        pytest.fail(f"{where}: {error}")


def test_the_pages_were_read() -> None:
    assert {where for where, _ in SHOWN} >= {"README.md", "mock-cloud.1", "mock-cloud-mock.1"}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(TOP)))
def test_what_is_mentioned_exists(path: Path) -> None:
    """Verbs and options of mock-cloud between backticks, and other pages of this tree."""
    if path.suffix != ".md":
        return
    text = path.read_text()
    verbs = {prog.partition(" ")[2]: None for prog, _ in _helps(_parser(""))}
    for code in re.findall(r"`mock-cloud ([a-z][^`]*)`", text):
        words = [word for word in code.split() if re.fullmatch(r"[a-z][a-z-]+", word)]
        assert words and (words[0] in verbs), f"{path.name}: mock-cloud {code}"
        taken = set(_options(_parser(words[0])))
        for option in re.findall(r"(?<!\S)--?[a-z][a-z-]*", code):
            assert option in taken, f"{path.name}: mock-cloud {code}: {option}"
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", text):
        page = path.parent / target if target else path
        assert page.exists(), f"{path.name}: {target}"
        assert not anchor or anchor in _anchors(page), f"{path.name}: {target}#{anchor}"


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Those of a verb, or of all: of an inline command one does not say where its words end."""
    for action in parser._actions:
        yield from action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            for verb in action.choices.values():
                yield from _options(verb)


def _anchors(page: Path) -> set[str]:
    """As forges make them of headings."""
    headings = re.findall(r"^#+ (.+)", page.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}


# What users asked for and did not find: heading, and what its section must show.
SUBJECTS = {
    "docs/cloud-admin.md": {
        "Rights: an IAM policy": '"Action"',
        "Network: a security group": "TCP 22",
        "Cost": "mock-cloud nodes",
        "The first image, from a stock one": "mock-cloud image bake",
        "Each month": "mock-cloud image bake",
        "Keys": "mock-cloud known-good revoke",
        "Teams": "mock-cloud image share",
    },
    "docs/user-guide.md": {
        "Chroot configurations": "distribution-gpg-keys/keys /usr/share/distribution-gpg-keys",
        "In CI": "mock-cloud setup",
        "Upgrade and removal": "pip uninstall mock-cloud",
    },
    "docs/troubleshooting.md": {"Refused (77)": "mock-cloud", "Without a node (75)": "mock-cloud"},
    "README.md": {"Install": "pip"},
}


@pytest.mark.parametrize(
    ("page", "heading"), [(page, heading) for page, of in SUBJECTS.items() for heading in of]
)
def test_what_users_look_for_has_a_section(page: str, heading: str) -> None:
    sections = re.split(r"^## ", (TOP / page).read_text(), flags=re.M)
    found = [one for one in sections if one.partition("\n")[0] == heading]
    assert len(found) == 1 and SUBJECTS[page][heading] in found[0]
