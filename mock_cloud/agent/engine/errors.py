# SPDX-License-Identifier: GPL-2.0-or-later
"""How a job can fail, with the exit code mock gives that failure.

The codes are those of mock's `mockbuild/exception.py`; 75 is ours and means that the node,
not the package, is at fault.
"""

from __future__ import annotations


class EngineError(Exception):
    """Root of the engine's failures. `message` is what mock would print after ``ERROR: ``."""

    exit_code = 1

    def __init__(self, message: str, exit_code: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        if exit_code is not None:
            self.exit_code = exit_code


class ConfigurationError(EngineError):
    """The rendered configuration cannot be used by this engine."""

    exit_code = 3


class ChrootCommandFailed(EngineError):
    """A command in the chroot failed; like mock, its own status becomes the exit code."""


class NotExecutable(EngineError):
    """A program cannot be executed: it is missing, or is none."""


class BuildError(EngineError):
    """rpmbuild failed where mock itself calls it a build error."""

    exit_code = 10


class BuildTimeout(EngineError):
    """A command ran longer than `rpmbuild_timeout`."""

    exit_code = 11


class OutputTimeout(BuildTimeout):
    """The job printed nothing for longer than it may."""


class RootError(EngineError):
    """The chroot could not be set up."""

    exit_code = 20


class PackageManagerError(RootError):
    """dnf failed, or a repository cannot be used."""

    exit_code = 30


class PackageError(EngineError):
    """Something is wrong with the source package."""

    exit_code = 40


class ModeUsageError(EngineError):
    """The mode was asked for with arguments it cannot work with."""

    exit_code = 50


class Unsupported(EngineError):
    """The package needs what this engine has not got."""

    exit_code = 50


class RootLocked(EngineError):
    """Another job works in this chroot."""

    exit_code = 60

    def __init__(self) -> None:
        super().__init__("Build root is locked by another process.")


class NoSpace(EngineError):
    """The node's disk is full: infrastructure, never a failed build."""

    exit_code = 75


class JailEnded(EngineError):
    """Something outside of a command's jail ended it: infrastructure, never a failed build."""

    exit_code = 75


class Cancelled(EngineError):
    """The job was told to stop; `keep_chroot`: without cleaning up, as mock on SIGTERM."""

    exit_code = 7

    def __init__(self, message: str, *, keep_chroot: bool = False) -> None:
        super().__init__(message)
        self.keep_chroot = keep_chroot
