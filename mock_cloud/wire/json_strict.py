# SPDX-License-Identifier: GPL-2.0-or-later
"""JSON that another machine, another user or a damaged disk may have written.

`json.loads` takes more than JSON (NaN, the last of two equal keys, UTF-16) and raises more than
ValueError (RecursionError). Whoever reads foreign bytes reads them with this.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn


class JsonError(ValueError):
    """The bytes are not JSON, or not JSON with one meaning."""


def load_json(data: bytes | str) -> Any:
    """The value in `data`, UTF-8. JsonError for anything but one whole JSON text.

    Refused too: a key that stands twice in an object, NaN, Infinity and numbers as large
    (1e999), integers beyond Python's own limit of digits, what is nested too deep. A text may
    hold lone surrogates.
    """
    try:
        return json.loads(
            data if isinstance(data, str) else data.decode(),
            object_pairs_hook=_distinct,
            parse_constant=_no_constant,
            parse_float=_finite,
        )
    except JsonError:
        raise
    except (ValueError, RecursionError) as error:
        raise JsonError(f"not JSON: {str(error)[:80]}") from error


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise JsonError("a key stands twice in one object")
    return found


def _no_constant(name: str) -> NoReturn:
    raise JsonError(f"{name} is not a number here")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise JsonError("a number is too large")
    return number
