# SPDX-License-Identifier: GPL-2.0-or-later
"""The two command lines that a node's shell sees. All else is spoken with the agent.

Whatever the login shell is, it only starts /bin/sh. The scripts hold no single quotes, so
that any shell passes them on unchanged.
"""

from __future__ import annotations

import posixpath
import shlex
from typing import Final

from mock_cloud.model import Toolkit

EXIT_NO_TOOLKIT: Final = 96
EXIT_OTHER_ARCH: Final = 94
EXIT_CANNOT_UNPACK: Final = 95

_UNSET: Final = (
    # ld.so(8) and glibc's list of variables that a secure execution ignores
    "LD_PRELOAD LD_LIBRARY_PATH LD_AUDIT LD_DEBUG LD_DEBUG_OUTPUT LD_BIND_NOW LD_BIND_NOT "
    "LD_DYNAMIC_WEAK LD_ORIGIN_PATH LD_PROFILE LD_PROFILE_OUTPUT LD_SHOW_AUXV LD_HWCAP_MASK "
    "LD_TRACE_LOADED_OBJECTS LD_USE_LOAD_BIAS LD_VERBOSE LD_WARN GLIBC_TUNABLES GCONV_PATH "
    "LOCPATH MALLOC_TRACE ENV BASH_ENV PYTHONPATH PYTHONHOME PYTHONSTARTUP"
)
# Then env -i: no variable of the node's survives, named above or not. LC_ALL=C makes the C
# library read no locale files; python takes it as UTF-8 (PEP 540).
_ENVIRONMENT: Final = (
    "/usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "
    "HOME=/root LC_ALL=C"
)


def start_command(toolkit: Toolkit, *words: str) -> str:
    """Become the agent; status `EXIT_NO_TOOLKIT` if the toolkit is not there.

    `EXIT_OTHER_ARCH` if the node says that it is of another architecture: its kernel would refuse
    our loader, and a shell would then read it as a script.
    """
    agent = shlex.join(toolkit.argv(*words))
    return _in_sh(
        f"[ $(uname -m) = {shlex.quote(toolkit.arch)} ] || exit {EXIT_OTHER_ARCH}; "
        f"cd / && [ -d {shlex.quote(toolkit.node_dir)} ] || exit {EXIT_NO_TOOLKIT}; "
        f"unset {_UNSET}; exec {_ENVIRONMENT} {agent}"
    )


def push_command(toolkit: Toolkit) -> str:
    """Unpack the archive on stdin beside the toolkit's place, then move it there.

    A toolkit that stands there is replaced, since one is pushed over another only when that
    is damaged. What an interrupted push left is removed.
    """
    final = shlex.quote(toolkit.node_dir)
    parent = shlex.quote(posixpath.dirname(toolkit.node_dir))
    return _in_sh(
        f"umask 077; unset {_UNSET}; mkdir -p {parent} && cd {parent} || exit 1; "
        "rm -rf ./*.tmp.* ./*.old.*; "
        f"T={final}.tmp.$$; O={final}.old.$$; mkdir $T || exit 1; "
        f"if ! tar -xzpof - -C $T; then rm -rf $T; exit {EXIT_CANNOT_UNPACK}; fi; "
        f"if [ -d {final} ]; then mv -T {final} $O; fi; "
        f"mv -T $T {final} || exit 1; rm -rf $O; exit 0"
    )


def _in_sh(script: str) -> str:
    if "'" in script:
        raise ValueError("a path with a quote has no place on a node")
    return f"exec /bin/sh -c '{script}'"
