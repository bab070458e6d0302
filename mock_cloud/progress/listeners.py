# SPDX-License-Identifier: GPL-2.0-or-later
"""Who is told why calls to APIs take long, where no caller listens itself.

It imports no API: the command line listens before it knows whether any is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

_listeners: list[Callable[[str], None]] = []


@contextmanager
def listening(on_phase: Callable[[str], None]) -> Iterator[None]:
    """Within the block `on_phase` is told; an inner block's takes its place."""
    _listeners.append(on_phase)
    try:
        yield
    finally:
        _listeners.remove(on_phase)


def tell_listener(phase: str) -> None:
    for on_phase in _listeners[-1:]:
        on_phase(phase)
