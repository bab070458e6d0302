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
_IN_WORDS: Final = (
    f"(-({_RUN}|INFO: (Start\\(|Results and/or logs in: |Cleaning up build root ).*)"
    "|[-+](CRITICAL|ERROR): .*)"
)
"""What mock says until it refuses, and the one line that refuses, on either side."""
_REFUSED = ("bad arguments", "unknown options", "configuration", "spec and sources")
_CHAINS = ("chain", "chain fails", "chain, partly", "chain, recursive")
_CASES_OF_CHAINS = ("requirements by a macro that a requirement brings",)

COMMON: Final = (
    Difference(
        "mock announces its plugins, hooks, package manager and caches. This engine has no such "
        "parts: a chroot stands on layers, which are as new as the repositories are.",
        f"(stderr|.*state\\.log) [-+]({_SETUP})",
        engines=("chroot",),
    ),
    Difference(
        "Whether a root cache is there differs between any two runs of mock.",
        "(stderr|.*state\\.log) [-+]((Start|Finish): (unpacking root cache|creating root cache"
        "|dnf4 update|installing minimal buildroot with dnf4)"
        "|INFO: (Installed packages:|base-files-.*|)"
        "|INFO: Buildroot is handled by package management from host .*)",
        engines=("mock",),
    ),
    Difference(
        "Whether pigz and /etc/localtime are there: the lab's node has neither, this machine may.",
        "stderr [-+]WARNING: (specified 'pigz' as the root cache compress program .*"
        "|File /etc/localtime not present\\. It is not copied into the chroot\\.)",
    ),
    Difference(
        "The node, and what was verified of it, is named.",
        "stderr \\+INFO: remote local: .*",
    ),
    Difference(
        "The verdict, the node's order log and the signed provenance are beside mock's own logs.",
        "(files \\+.*remote_(attestation\\.log|order\\.log|evidence\\.zip|provenance\\.json)"
        "|stderr \\+INFO: made the key that signs what is built, .*)",
    ),
    Difference(
        "mock lists the installed packages for the first package of a command only.",
        "(files \\+.*installed_pkgs\\.log"
        "|(stderr|.*state\\.log) \\+(Start|Finish): Outputting list of .*)",
        engines=("chroot",),
    ),
)

_CHAIN_DIFFERENCES: Final = (
    Difference(
        "In a chain mock stops telling states on the terminal at its first package. This engine "
        "does not.",
        "stderr \\+(Start|Finish): (run|clean chroot|chroot init"
        "|(build phase|build setup|rpmbuild).*)",
        scenarios=(*_CHAINS, *_CASES_OF_CHAINS),
        engines=("chroot",),
    ),
    Difference(
        "The logs of the chroot's making are beside the packages. mock leaves them in the result "
        "directory of a chroot that has its process id in its name.",
        "files \\+(repo|other)/results/lab-1-x86_64/(build|root|state|hw_info)\\.log",
        scenarios=(*_CHAINS, *_CASES_OF_CHAINS),
        engines=("chroot",),
    ),
)

_ROOT_PATH: Final = Difference(
    "A warning says that the chroot is not in the directory that is printed (decision 0071).",
    "stderr \\+WARNING: the chroot is on the remote's node.*",
    scenarios=("configuration", "words of scripts"),
)

PARTICULAR: Final = (
    _ROOT_PATH,
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
        f"stderr {_IN_WORDS}",
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
        f"(exit (-[012]|\\+5)|stderr {_IN_WORDS})",
        scenarios=("unknown options",),
    ),
    Difference(
        "With --isolation=simple mock leaves commands and builds the network; a node never does.",
        "(exit (-0|\\+1)|stdout (-[1-9]\\d*|\\+0))",
        scenarios=("network",),
    ),
    Difference(
        "On the node a process namespace ends what is left, at once: whether mock still sees it "
        "differs between any two runs.",
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
    *_CHAIN_DIFFERENCES,
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

DETAILS: Final = (
    Difference(
        "This engine logs from the command's start, mock from the chroot's.",
        ".*state\\.log \\+(Start|Finish): (run|clean chroot)",
        engines=("chroot",),
    ),
    Difference(
        "A configuration that is newer than mock's root cache makes that anew. A layer is known by "
        "what it was made of, and mock on a node has no cache yet.",
        "stderr -INFO: .*\\.cfg newer than root cache; cache will be rebuilt",
    ),
    Difference(
        "When one of rpmbuild's two pipes ends, mock stops reading the other: the last lines of "
        "its standard error are there or not.",
        ".*build\\.log [-+](\\+.*|(error|rpmbuild):.*|RPM build errors:|\\s*Bad exit status .*)",
    ),
    Difference(
        "rpmbuild writes `error: ` and what follows it one after the other: mock may read the "
        "other pipe in between.",
        ".*build\\.log [-+](error: )?(Building target platforms: |failed to stat ).*",
    ),
    Difference(
        "Two commands of local mock share its package manager's cache, and one may wait for the "
        "other. Here each job has a cache of its own.",
        ".*state\\.log -(Start|Finish): Waiting for yumcache lock",
    ),
)
"""What is looked at in the cases only."""

CASES: Final = (
    *_CHAIN_DIFFERENCES,
    Difference(
        "What this machine can tell is refused before a node is leased, in words of our own. The "
        "exit codes are mock's.",
        f"(stderr ({_IN_WORDS}|-(Start|Finish): buildsrpm)|files -.*\\.log)",
        scenarios=("links among the sources", "values of --define"),
    ),
    Difference(
        "A chain with a package that is not there is refused as a whole before a node is leased, "
        "with mock's exit code. mock builds the others.",
        "(stderr .*|stdout .*|files -repo/.*)",
        scenarios=("a chain with things that are no packages",),
    ),
    Difference(
        "mock on the node gives the build user the node's group mock, here it is this machine's.",
        ".*build\\.log [-+]uid=\\d+\\(mockbuild\\) gid=\\d+\\(mock\\) groups=\\d+\\(mock\\)",
        scenarios=("umask", "environment of the caller", "login shells of the build"),
        engines=("mock",),
    ),
    Difference(
        "mock on the node may make no device (decision 0051): these are the node's, bound.",
        "stdout [-+]c[-rw]{9} root:(root|tty) \\d+:\\d+ (tty|urandom)",
        scenarios=("what is in /dev",),
        engines=("mock",),
    ),
    _ROOT_PATH,
    Difference(
        "--umount needs no node: nothing stays mounted there between commands.",
        f"stderr (-{_RUN}|\\+INFO: --umount: .*)",
        scenarios=("words of scripts",),
    ),
    Difference(
        "The chroot's own architecture needs no emulation, and this engine looks for none.",
        "stderr -WARNING: Mock with --forcearch=\\S+ will likely fail with missing \\S+",
        scenarios=("words of scripts",),
        engines=("chroot",),
    ),
    Difference(
        "A command is announced before the node is asked, and so before mock there warns of what "
        "it lacks for --forcearch.",
        "stderr [-+]INFO: mock\\.py version…",
        scenarios=("words of scripts",),
        engines=("mock",),
    ),
    Difference(
        "What was downloaded is the user's, not root's, and mock on the node names its own "
        "directory.",
        "(stderr [-+]INFO: Running dnf-cmd .*|mode [-+]-rw-r--r-- \\S+ (named/)?psmisc-\\S+)",
        scenarios=("packages are downloaded",),
        engines=("mock",),
    ),
    Difference(
        "The result directory is named by its full path; mock says what it was given.",
        "stderr [-+]INFO: Results and/or logs in: .*",
        scenarios=("result directory by odd paths",),
    ),
    Difference(
        "A disk that is full here does not end the job on the node, where its package is built. It "
        "is said when it happens, and at the end with 75: that is not the package's fault.",
        "(exit (-1|\\+75)|stderr ([-+]INFO: Cleaning up build root .*|-ERROR: Exception\\(.*"
        "|-INFO: Results and/or logs in: .*|\\+Finish: run"
        "|\\+(WARNING|ERROR): the disk <scratch>/results is full: .*))",
        scenarios=("result directory is full",),
    ),
    Difference(
        "mock copies over what is there, so a read-only package of the same name ends it. Here "
        "packages appear by rename(2), which asks the directory only.",
        "(exit (-1|\\+0)|stderr .*|files \\+.*\\.src\\.rpm|mode [-+].*"
        "|results/state\\.log \\+Finish: run)",
        scenarios=("results that are there",),
    ),
    Difference(
        "With --verbose each side tells what it does itself.",
        "stderr [-+]DEBUG: .*",
        scenarios=("verbose",),
    ),
    Difference(
        "This engine has no package manager commands: refused by name.",
        "(exit (-0|\\+50)|stderr .*|files -.*|stdout .*)",
        scenarios=("packages are downloaded",),
        engines=("chroot",),
    ),
    Difference(
        "A file of a layer is copied when it is first written to: its other names keep the old "
        "one, and so does who had it open to read (the kernel's overlayfs.rst).",
        "(exit (-0|\\+1)|stdout [-+].*)",
        scenarios=("files of packages are changed in place",),
        engines=("chroot",),
    ),
)
