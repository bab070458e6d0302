# SPDX-License-Identifier: GPL-2.0-or-later
"""How a good input is spoilt: as bytes, and where it is JSON, TOML or YAML as a tree that nests."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import strategies as st

_LONG = 70_000
TOKENS = (
    "NaN", "-Infinity", "1e999", "-1e999", "1e308", "1" + "0" * 400, "9" * 5000, "-1", "-0.0",
    "18446744073709551616", "1.5", "true", "null", "[]", "{}", '""', r'"\ud800"', r'"\udcc3\udca9"',
    r'"\u0000"', r'"\u001b[2J"', r'"\ud83d\ude00"', '"../../x"', '"/"', '"' + "x" * _LONG + '"',
    '"' + "a/" * 2100 + '"', "[" * 100_000, '{"a":' * 3000 + "1" + "}" * 3000,
    "[" * 900 + "]" * 900, '[["a",' * 30 + "1" + "]]" * 30, 'null,"again":null,"again":null',
)  # fmt: skip
"""JSON text that a value is replaced by; not all of it is well-formed."""

_scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12) | st.sampled_from(["", "/", "..", "a\0b", "\x1b[31m", "x" * 5000])
)  # fmt: skip
trees = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=12,
)
_PLACE = "\u2603spoilt\u2603"


def spoilt_json(draw: st.DrawFn, seed: Any) -> bytes:
    """`seed` as JSON text, with one value, at any depth, replaced by another or by a token."""
    top = {"": copy.deepcopy(seed)}
    holder, key = _draw_place(draw, top)
    token = draw(st.sampled_from(TOKENS) | trees.map(json.dumps))
    if isinstance(holder, dict) and draw(st.integers(0, 9)) == 0:
        holder[draw(st.text(max_size=6))] = holder[key]
    holder[key] = _PLACE
    return json.dumps(top[""]).replace(json.dumps(_PLACE), token).encode("utf-8", "surrogatepass")


def _draw_place(draw: st.DrawFn, top: dict[str, Any]) -> tuple[Any, Any]:
    holder: Any = top
    while True:
        key = draw(
            st.sampled_from(sorted(holder) if isinstance(holder, dict) else range(len(holder)))
        )
        below = holder[key]
        if not isinstance(below, (dict, list)) or not below or draw(st.integers(0, 3)) == 0:
            return holder, key
        holder = below


LINE_TOKENS = (
    "0x" + "f" * 6000, "0o" + "7" * 6000, "9" * 5000, "inf", ".inf", "nan", "1e999", "-1", "true",
    "[" * 3000, "{a = " * 2000, "[[1], {}]", "''", r'"\u0000"', r'"/a\u0000b"', r'"\u001b[2J"',
    r'"\ud800"', '"/' + "x" * 300 + '"', '"' + "a/" * 3000 + '"', '"' + "x" * 70_000 + '"',
    '"~nobody-here/x"', "1979-05-27T07:32:00Z", "2001-99-99", '"http://[::1"',
    '"http://h:99999999/"', '"ssh-ed25519 AAAA"', '"1e400s"', "&a [*a]", "? [a]", "190:20:30.15",
    "!!python/name:os.system", "!!int '0x'", "!!int ''", "!!binary '*'", "!!timestamp x",
    "!!float x", "!!bool x", "!!set [a]", "!!omap 1",
)  # fmt: skip
"""What a value of TOML or YAML is replaced by."""


def spoilt_line(draw: st.DrawFn, seed: bytes) -> bytes:
    """`seed`, lines of TOML or YAML, with one value replaced."""
    lines = seed.decode().splitlines()
    number = draw(st.integers(0, len(lines) - 1))
    name, mark, _ = lines[number].partition(" = " if " = " in lines[number] else ": ")
    lines[number] = f"{name}{mark}{draw(st.sampled_from(LINE_TOKENS))}"
    return "\n".join(lines).encode()


def spoilt_bytes(draw: st.DrawFn, seed: bytes) -> bytes:
    """`seed` with a few pieces cut out, put in, doubled or overwritten."""
    data = bytearray(seed)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.sampled_from((0, 1, 2, 4, 16, 1000))))
        what = draw(st.integers(0, 3))
        if what == 0:
            del data[start:end]
        elif what == 1:
            data[start:end] = draw(st.binary(max_size=24))
        elif what == 2:
            data[start:start] = data[start:end] * draw(st.sampled_from((1, 2, 500)))
        else:
            number = draw(st.sampled_from((0, 1, 127, 128, 255)))
            data[start:end] = bytes([number]) * (end - start)
    return bytes(data)
