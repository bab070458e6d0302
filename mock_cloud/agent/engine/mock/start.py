# SPDX-License-Identifier: GPL-2.0-or-later
"""What python3 on the node is given to run: mock's own script, two of its habits made cheaper.

For each logger that mock makes it asks the `inspect` module for its caller, and is told of every
frame the line of source that it stands at: a third of what a small command takes. And a
configuration's value is a template that is compiled whenever it is read. Neither changes what mock
does: of the frames it uses one and no source, and a template is what its text says.
"""

from __future__ import annotations

import os
from typing import Final

# Python 3.6, as mock's. It becomes mock's own module: names that begin with an underscore stay.
_TEXT: Final = '''\
import sys as _sys
from importlib.machinery import SourceFileLoader as _SourceFileLoader

_script = _sys.argv[1]
del _sys.argv[0]
_sys.path[0] = _script.rpartition("/")[0]


class _Cheaper:
    """A module with some other names in it."""

    def __init__(self, module, **names):
        self.__dict__.update(names)
        self._module = module

    def __getattr__(self, name):
        return getattr(self._module, name)


def _make_cheaper():
    import functools
    import inspect

    def getouterframes(frame, context=1):
        found = []
        while frame:
            where = frame.f_code
            facts = (frame, where.co_filename, frame.f_lineno, where.co_name, None, None)
            found.append(inspect.FrameInfo(*facts))
            frame = frame.f_back
        return found

    try:
        from mockbuild import trace_decorator
        trace_decorator.inspect = _Cheaper(inspect, getouterframes=getouterframes)
        import jinja2
        import templated_dictionary
        template = functools.lru_cache(maxsize=None)(jinja2.Template)
        templated_dictionary.jinja2 = _Cheaper(jinja2, Template=template)
    except ImportError:  # another mock, with other habits
        pass


_make_cheaper()
__file__ = _script
# Where its byte code came along, that is what runs.
exec(_SourceFileLoader("__main__", _script).get_code("__main__"))
'''


def write_start(path: str) -> None:
    """Write it as the file `path`. OSError."""
    with open(path, "w", encoding="ascii") as stream:
        stream.write(_TEXT)
    os.chmod(path, 0o644)
