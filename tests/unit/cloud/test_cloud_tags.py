# SPDX-License-Identifier: GPL-2.0-or-later
import pytest

from mock_cloud.cloud.apis.adapter import TAG_EXPIRES, TAG_LEASE, TAG_REMOTE
from mock_cloud.cloud.apis.tags import format_line, parse_line
from mock_cloud.cloud.images import TAG_OWNER

TAGS = {TAG_LEASE: "a1", TAG_OWNER: "me@host&co:0", TAG_REMOTE: "cloud", TAG_EXPIRES: "170"}


@pytest.mark.parametrize("text", [None, 7, "", "web server of Jane", f"{TAG_LEASE}=a1", "=&=%zz"])
def test_anybody_elses_text_has_no_tags(text: object) -> None:
    assert parse_line(text) == {}


def test_a_line_keeps_the_tags() -> None:
    assert parse_line(format_line(TAGS, 255)) == TAGS


def test_a_short_line_keeps_what_a_sweep_needs() -> None:
    line = format_line({**TAGS, TAG_REMOTE: "r" * 200}, 255)
    assert len(line) <= 255
    assert parse_line(line) == {name: TAGS[name] for name in (TAG_LEASE, TAG_OWNER, TAG_EXPIRES)}
