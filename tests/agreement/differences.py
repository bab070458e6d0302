# SPDX-License-Identifier: GPL-2.0-or-later
"""The differences that are known, each with its reason. Those without one fail the comparison."""

from __future__ import annotations

from typing import Final

from tests.agreement.model import Difference

_SETUP: Final = (
    "(Start|Finish): (init plugins|unpacking root cache|creating root cache"
    "|cleaning package manager metadata|dnf4 (update|install)"
    "|installing minimal buildroot with dnf4)"
    "|INFO: (selinux disabled|Signal handler active|calling preinit hooks|enabled .*"
    "|Package manager dnf4 detected and used \\(fallback\\)"
    "|Buildroot is handled by package management from host and used with .*"
    "|Installed packages:|base-files-.*|)"
)
"""What mock says of its own parts and caches."""
_RUN: Final = (
    "(INFO: (mock\\.py version|Mock Version: )…|(Start|Finish): (run|clean chroot|chroot init)"
    f"|{_SETUP})"
)
"""What mock says before it looks at what it was asked for."""
_REFUSED = ("bad arguments", "unknown options", "configuration", "spec and sources")

COMMON: Final = (
    Difference(
        "mock announces its plugins, hooks, package manager and caches. This engine has no such "
        "parts: a chroot stands on layers, which are as new as the repositories are.",
        f"stderr [-+]({_SETUP})",
        engines=("chroot",),
    ),
    Difference(
        "Whether a root cache is there differs between any two runs of mock.",
        "stderr [-+]((Start|Finish): (unpacking root cache|creating root cache|dnf4 update"
        "|installing minimal buildroot with dnf4)|INFO: (Installed packages:|base-files-.*|)"
        "|INFO: Buildroot is handled by package management from host .*)",
        engines=("mock",),
    ),
    Difference(
        "The lab's node has neither pigz nor /etc/localtime; this machine has.",
        "stderr \\+WARNING: (specified 'pigz' as the root cache compress program .*"
        "|File /etc/localtime not present\\. It is not copied into the chroot\\.)",
        engines=("mock",),
    ),
    Difference(
        "The node, and what was verified of it, is named.",
        "stderr \\+INFO: remote local: .*",
    ),
    Difference(
        "The verdict and the node's order log are beside mock's own logs.",
        "files \\+.*remote_(attestation|order)\\.log",
    ),
    Difference(
        "Said once, when the results are here: after the node's run has finished.",
        "stderr [-+](INFO: Results and/or logs in: .*|Finish: run)",
        engines=("chroot",),
    ),
    Difference(
        "mock lists the installed packages for the first package of a command only, and on Debian "
        "finds none, since the host's rpm looks for another database.",
        "(files [-+].*installed_pkgs\\.log( \\(empty\\))?"
        "|stderr \\+(Start|Finish): Outputting list of installed packages)",
    ),
)

PARTICULAR: Final = (
    Difference(
        "mock ends with a traceback; here one line says what is wrong. Both exit with 1.",
        "stderr [-+]ERROR: (no-such-command: No such file or directory"
        "|cannot go to /no/such/place in the chroot|Exception occurred in preexec_fn\\.)",
        scenarios=("chroot, several arguments", "unpriv and cwd"),
        engines=("chroot",),
    ),
    Difference(
        "What this machine can tell is refused before a node is leased, in words of our own. The "
        "exit codes are mock's.",
        "stderr .*",
        scenarios=_REFUSED,
    ),
    Difference(
        "The same, of files: nothing is started for them.",
        f"stderr (-{_RUN}"
        "|[-+](CRITICAL|ERROR): (No such file or directory|multiple source files).*)",
        scenarios=("copyin and copyout",),
    ),
    Difference(
        "An option that mock does not know is a package name to it, a value it cannot split a "
        "traceback, and argparse's 2 is also mock's code for missing privileges. All are 5 here.",
        "(exit (-[012]|\\+5)|stderr .*)",
        scenarios=("unknown options",),
    ),
    Difference(
        "With --isolation=simple mock leaves commands and builds the network; a node never does.",
        "(exit (-0|\\+1)|stdout (-[1-9]\\d*|\\+0))",
        scenarios=("network",),
    ),
    Difference(
        "On the node a process namespace ends what is left, at once.",
        "stderr [-+]WARNING: Leftover process N is being killed with signal N",
        scenarios=("left processes", "timeout"),
    ),
    Difference(
        "This engine has no --orphanskill: nothing outlives its command.",
        "(exit (-0|\\+50)|stderr (-(Start|Finish): run"
        "|\\+(ERROR|CRITICAL): --orphanskill is not supported by the chroot engine))",
        scenarios=("left processes",),
        engines=("chroot",),
    ),
    Difference(
        "The host's rpm finds no installed packages (see above), so mock thinks that nothing was "
        "installed, and stops asking one round sooner.",
        "stderr \\+INFO: Going to install missing dynamic buildrequires",
        scenarios=("dynamic BuildRequires",),
    ),
    Difference(
        "The lab's configuration for this column is readable by root only, and mock reads it as "
        "the user.",
        "(exit (-0|\\+3)|stdout -<basedir>/lab-1-x86_64/root/)",
        scenarios=("configuration",),
        engines=("mock",),
    ),
    Difference(
        "What was built is installed by its names in the results; their paths are the node's.",
        "stderr [-+]INFO: (Installing built packages|installing package\\(s\\): .*)",
        scenarios=("postinstall",),
    ),
    Difference(
        "--rootdir is refused by name: the chroot is on the node, and this engine has one place "
        "for it.",
        "(exit (-0|\\+50)|stderr .*|files -.*|stdout .*)",
        scenarios=("rootdir",),
        engines=("chroot",),
    ),
    Difference(
        "This engine has no --calculate-build-dependencies: refused by name.",
        "(exit (-0|\\+50)|stderr .*|files -.*|stdout .*)",
        scenarios=("calculate-build-dependencies",),
        engines=("chroot",),
    ),
    Difference(
        "The chroot is on the node: a warning says that nothing is put into that directory.",
        "(stderr \\+WARNING: the chroot is on the node, nothing is put into .*|files -root/.*)",
        scenarios=("rootdir",),
        engines=("mock",),
    ),
)
