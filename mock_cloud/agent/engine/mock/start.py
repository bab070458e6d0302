# SPDX-License-Identifier: GPL-2.0-or-later
"""What python3 on the node is given to run: mock's own script, some of its habits made cheaper.

For each logger that mock makes it asks the `inspect` module for its caller, and is told of every
frame the line of source that it stands at: a third of what a small command takes. A configuration's
value is a template that is compiled whenever it is read. And mock loads all of pyroute2 to bring up
a loopback, requests in case that a package is at a URL, and asyncio to repeat a plain function:
most of its imports. None of this changes what mock does: docs/decisions/0096, 0106, 0165 say why.
"""

from __future__ import annotations

import os
from typing import Final

# Python 3.6, as mock's. It becomes mock's own module: names that begin with an underscore stay.
_TEXT: Final = '''\
import sys as _sys
from importlib.machinery import SourceFileLoader as _SourceFileLoader
from types import ModuleType as _ModuleType

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
        compiled = functools.lru_cache(maxsize=None)(jinja2.Template)

        class Plain:
            """A text without anything to replace."""

            def __init__(self, text):
                self._text = text

            def render(self, *args, **kwargs):
                return self._text

        def template(text, **options):
            if options == {"keep_trailing_newline": True}:
                # Where nothing begins, and no end of a line is another one than jinja2 writes.
                if not any(part in text for part in ("{%", "{{", "{#", "\\r")):
                    return Plain(text)
            return compiled(text, **options)

        template.cache_info = compiled.cache_info
        templated_dictionary.jinja2 = _Cheaper(jinja2, Template=template)
    except ImportError:  # another mock, with other habits
        pass


class _IPRoute:
    """What mock asks of pyroute2 to bring up a loopback; for all else it is loaded."""

    def link_lookup(self, **wanted):
        import socket
        if set(wanted) == {"ifname"}:
            return [socket.if_nametoindex(wanted["ifname"])]
        return self._whole().link_lookup(**wanted)

    def link(self, *words, **facts):
        import struct
        if words == ("set",) and facts == {"index": facts.get("index"), "state": "up"}:
            # rtnetlink(7): RTM_NEWLINK, an ifinfomsg, of its flags IFF_UP
            return _ask_kernel(16, 0, struct.pack("=BxHiII", 0, 0, facts["index"], 1, 1))
        return self._whole().link(*words, **facts)

    def route(self, *words, **facts):
        import socket
        import struct
        if words == ("add",) and facts == {"dst": "default", "gateway": "127.0.0.1"}:
            # RTM_NEWROUTE, NLM_F_CREATE and NLM_F_EXCL: an rtmsg (IPv4, table main, static,
            # unicast), RTA_GATEWAY
            route = struct.pack("=8BI", socket.AF_INET, 0, 0, 0, 254, 4, 0, 1, 0)
            gateway = struct.pack("=HH", 8, 5) + socket.inet_aton(facts["gateway"])
            return _ask_kernel(24, 0x600, route + gateway)
        return self._whole().route(*words, **facts)

    def _whole(self):
        import pyroute2
        return pyroute2.IPRoute()

    def __getattr__(self, name):
        return getattr(self._whole(), name)


def _ask_kernel(kind, flags, body):
    """One request of netlink(7), acknowledged. OSError."""
    import os
    import socket
    import struct
    request, acknowledge, error = 1, 4, 2
    head = struct.pack("=IHHII", 16 + len(body), kind, request | acknowledge | flags, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as kernel:
        kernel.sendto(head + body, (0, 0))
        answer = kernel.recv(65536)
    _, told, _, _, _, code = struct.unpack_from("=IHHIIi", answer)
    if told != error:
        raise OSError("netlink: message of type %d" % told)
    if code:
        raise OSError(-code, os.strerror(-code))


class _StandIn(_ModuleType):
    """A module that is not loaded, with some names that do not load it; all others do."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(_load(self.__name__), name)


class _Later:
    """A class of a module that is loaded when something of it is used."""

    def __init__(self, module, name):
        self._where = module, name

    def __getattr__(self, name):
        return getattr(self._find(), name)

    def __call__(self, *args, **kwargs):
        return self._find()(*args, **kwargs)

    def _find(self):
        module, name = self._where
        return getattr(_load(module), name)


def _load(module):
    from importlib import import_module
    if isinstance(_sys.modules.get(module), _StandIn):
        del _sys.modules[module]
    return import_module(module)


def _put_off():
    from importlib.util import find_spec
    from inspect import iscoroutinefunction
    routes, downloader = _StandIn("pyroute2"), _StandIn("mockbuild.file_downloader")
    coroutines = _StandIn("asyncio")  # backoff's, which mock has around plain functions
    routes.IPRoute = _IPRoute
    downloader.FileDownloader = _Later(downloader.__name__, "FileDownloader")
    coroutines.iscoroutinefunction = iscoroutinefunction
    try:
        for module in (routes, downloader, coroutines):
            if module.__name__ not in _sys.modules and find_spec(module.__name__):
                _sys.modules[module.__name__] = module
        import mockbuild.backend
        import mockbuild.util
        if find_spec("mockbuild.podman"):
            import mockbuild.podman
    except ImportError:  # a mock of other modules
        _sys.modules.pop(downloader.__name__, None)
    finally:  # whoever else wants one of these gets it itself
        for module in (routes, coroutines):
            if _sys.modules.get(module.__name__) is module:
                del _sys.modules[module.__name__]


_make_cheaper()
_put_off()
__file__ = _script
# Where its byte code came along, that is what runs.
exec(_SourceFileLoader("__main__", _script).get_code("__main__"))
'''


def write_start(path: str) -> None:
    """Write it as the file `path`. OSError."""
    with open(path, "w", encoding="ascii") as stream:
        stream.write(_TEXT)
    os.chmod(path, 0o644)
