# SPDX-License-Identifier: GPL-2.0-or-later
"""Every failure mock-cloud reports, with its exit code and what to do next.

One root class, one catch at the edge (`launcher`, `cli`). Third-party exceptions are
translated where the library is called and chained with ``raise … from``.
"""

from __future__ import annotations

from mock_cloud.wire.dataclass import dataclass

EXIT_CONFIG = 3  # mock's own: invalid configuration
EXIT_COMMAND_LINE = 5  # mock's own: bad command line
EXIT_INTERRUPTED = 7  # mock's own: interrupted by the user
EXIT_USAGE = 50  # mock's own: wrong usage of a mode
EXIT_LOCKED = 60  # mock's own: the buildroot is in use
EXIT_RESULTDIR = 70  # mock's own: the resultdir cannot be used
EXIT_INFRASTRUCTURE = 75  # ours: retryable, nothing is wrong with the package
EXIT_DIFFERENT = 1  # ours, where packages are compared: they are not the same
EXIT_DISAGREED = 76  # ours: two builders made different packages of one source
EXIT_SIGPIPE = 141  # mock's own: nobody reads the output any more
EXIT_REFUSED = 77  # ours: attestation refused the node


class MockCloudError(Exception):
    """Root of all errors a user may see.

    `message` says what failed and where in one line; `hint` says what to do next. `kind` is a word
    of docs/json.md for programs.
    """

    exit_code = 1
    retryable = False
    kind = "other"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(MockCloudError):
    """A remote's file, a chroot configuration or a setting is invalid."""

    kind = "configuration"
    exit_code = EXIT_CONFIG


class CommandLineError(MockCloudError):
    """The command line itself is wrong."""

    kind = "usage"
    exit_code = EXIT_COMMAND_LINE


class UsageError(CommandLineError):
    """A mode lacks the arguments it needs, or has too many."""

    exit_code = EXIT_USAGE


class CheckoutFailed(MockCloudError):
    """git, svn or cvs failed in --scm-enable. The exit code is that command's, as in mock."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.exit_code = status


class UnsupportedByEngine(MockCloudError):
    """The chosen engine cannot honour an option or mode; the message names it."""

    kind = "usage"
    exit_code = EXIT_USAGE


class InputError(MockCloudError):
    """A file the user named is missing, unreadable or not what it should be."""

    kind = "usage"
    exit_code = EXIT_USAGE


class ChrootLocked(MockCloudError):
    """Another build uses this chroot right now."""

    kind = "locked"
    exit_code = EXIT_LOCKED


class CloudError(MockCloudError):
    """A node could not be had or given back."""

    kind = "infrastructure"
    exit_code = EXIT_INFRASTRUCTURE
    retryable = True


class JournalError(CloudError):
    """This machine's journal of leases cannot be used now; nothing is wrong with a node."""

    retryable = False


class ChrootGone(CloudError):
    """The node on which a chroot lived has ended, and what was done in the chroot is lost."""

    retryable = False


class TransportError(MockCloudError):
    """The SSH connection or the agent behind it failed."""

    kind = "infrastructure"
    exit_code = EXIT_INFRASTRUCTURE
    retryable = True


class ConnectionLost(TransportError):
    """The connection ended or the peer went silent past its deadline."""


class NodeGone(TransportError):
    """The node has ended or was started anew: no connection leads to its job any more."""


class ForwardingRefused(TransportError):
    """The node's sshd forwards no ports; another attempt would end like this one."""

    retryable = False


class HostKeyMismatch(TransportError):
    """The node answered with another host key than the pinned one. Never retried."""

    kind = "attestation"
    exit_code = EXIT_REFUSED
    retryable = False


class RemoteCommandError(MockCloudError):
    """The agent refused or failed an operation; `code` is the agent's error code."""

    kind = "infrastructure"
    exit_code = EXIT_INFRASTRUCTURE
    retryable = True

    def __init__(self, message: str, *, code: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code


class ToolkitFailed(RemoteCommandError):
    """The agent lacks a part of itself. Another node would be sent the same toolkit."""

    exit_code = EXIT_CONFIG
    retryable = False


class ResultError(MockCloudError):
    """Results could not be fetched, do not match their manifest, or cannot be stored."""

    kind = "infrastructure"
    exit_code = EXIT_INFRASTRUCTURE


class LocalResultError(ResultError):
    """Results or logs cannot be written here; nothing is wrong with the node."""


class LocalDiskFull(LocalResultError):
    """The local disk has no room for results or logs."""

    kind = "disk"


class ResultDirError(MockCloudError):
    """The local resultdir cannot be created, read or written."""

    exit_code = EXIT_RESULTDIR


class CleanupError(MockCloudError):
    """Something that mock-cloud made could not be removed; the message names it."""

    exit_code = EXIT_INFRASTRUCTURE


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a node was refused: a stable code, the subject, and the facts.

    `code` is a dotted lower-case word (``file.digest``, ``process.traced``); `subject` is
    mostly a path on the node. `expected` and `found` are short texts, never file contents.
    All texts may come from the node: escape them before they reach a terminal.
    """

    code: str
    subject: str
    expected: str = ""
    found: str = ""


def explaining(reason: Reason) -> str:
    """The command that says what a reason's code means."""
    return f"what it means: mock-cloud attest --explain {reason.code}"


class AttestationRefused(MockCloudError):
    """The node's evidence does not satisfy the policy. Never retried on that node."""

    kind = "attestation"
    exit_code = EXIT_REFUSED

    def __init__(
        self, message: str, *, reasons: tuple[Reason, ...], hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.reasons = reasons
