# SPDX-License-Identifier: GPL-2.0-or-later
"""What is read without expanding is what expanding would give."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from templated_dictionary import TemplatedDictionary

from mock_cloud.config.defaults import Options
from mock_cloud.config.values import read_option
from mock_cloud.errors import ConfigError

_TEXT = st.text(st.sampled_from(string.ascii_letters + " \t\n\r{}%#-'\"\\\u00e9"), max_size=20)
_VALUES = st.recursive(
    _TEXT | st.integers() | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=5,
)


@given(_VALUES)
def test_an_option_is_what_mock_reads(value: object) -> None:
    opts = Options({"name": value})
    opts["__jinja_expand"] = True
    try:
        found = read_option(opts, "name")
    except ConfigError:
        return
    other = TemplatedDictionary({"name": value})
    other["__jinja_expand"] = True
    assert found == other["name"]


@pytest.mark.parametrize(
    ("value", "expanded"),
    [
        ("{{root}}-x", "r-x"),
        (["{{root}}"], ["r"]),
        ({"a": "{{root}}"}, {"a": "r"}),
        ("a\r\n", "a\n"),
    ],
)
def test_templates_are_expanded(value: object, expanded: object) -> None:
    opts = Options({"name": value, "root": "r"})
    opts["__jinja_expand"] = True
    assert read_option(opts, "name") == expanded
