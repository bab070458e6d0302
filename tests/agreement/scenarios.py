# SPDX-License-Identifier: GPL-2.0-or-later
"""The scenarios: what mock's own integration tests look at, and what scripts rely on.

`<plain>`, `<failing>` and the like are source packages of `packages.py`; `<scratch>` is the
scenario's directory, `<results>` one in it.
"""

from __future__ import annotations

from tests.agreement import packages
from tests.agreement.model import Scenario, Step


def step(*words: str, stdin: bytes | None = None) -> Step:
    return Step(words, stdin)


def chroot(command: str) -> Step:
    """A look into the chroot as it is."""
    return step("--quiet", "--chroot", command)


_INIT = (step("--init"),)
_RESULTS = ("--resultdir", "<results>")
_PACKAGE = "bsdextrautils"  # in the lab's repository, not in its base
_ITS_FILE = "/usr/bin/hexdump"

COMMANDS = (
    Scenario(
        "init and clean",
        "a chroot is made and removed",
        (
            step("--init", *_RESULTS),
            chroot("touch /var/tmp/mark"),
            step("--clean"),
            chroot("ls /var/tmp/mark 2>&1"),
        ),
    ),
    Scenario(
        "chroot, one argument",
        "a single word goes through a shell; its status is mock's",
        (
            step("--chroot", "touch /var/tmp/{foo,bar}; ls /var/tmp"),
            step("--chroot", "echo out; echo err >&2; sleep 0.3; exit 5"),
            step("--chroot", "no-such-command x 2>&1"),
            step("--chroot", "id -un; pwd; echo $HOME $SHELL $LANG; kill -9 $$"),
        ),
        before=_INIT,
    ),
    Scenario(
        "chroot, several arguments",
        "several words are an argument vector: nothing is expanded or joined",
        (
            step("--chroot", "touch", "/var/tmp/{quux,wibble}"),
            step("--chroot", "--", "ls", "/var/tmp"),
            step("--chroot", "--", "printf", "%s|", "a b", "$HOME", "*", "--root", ""),
            step("--chroot", "--", "sh", "-c", "exit 5"),
            step("--chroot", "--", "no-such-command", "x"),
        ),
        before=_INIT,
    ),
    Scenario(
        "unpriv and cwd",
        "--chroot and --shell as the build user, in another directory",
        (
            step("--unpriv", "--cwd", "/var/tmp", "--chroot", "id -un; pwd; echo $HOME"),
            step("--unpriv", "--cwd", "/var/tmp", "--shell", "id -un; pwd; echo $HOME"),
            step("--cwd", "/no/such/place", "--chroot", "pwd"),
        ),
        before=_INIT,
    ),
    Scenario(
        "shell",
        "a command, several words, standard input; the status comes back",
        (
            step("--shell", "echo out; echo err >&2; id -un; exit 5"),
            step("--shell", "echo", "a  b", "$HOME"),
            step("--shell", "--", "ls", "-d", "/var/tmp", "|", "cat"),
            step("--shell", "cat; exit 4", stdin=b"one\ntwo"),
            step("--shell", stdin=b"echo from $HOME\nexit 6\n"),
        ),
        before=_INIT,
    ),
    Scenario(
        "quiet and verbose",
        "--quiet says nothing; --verbose does not change the outcome",
        (
            step("--quiet", "--init"),
            step("--quiet", "--chroot", "echo out"),
            step("--quiet", *_RESULTS, "<failing>"),
        ),
    ),
    Scenario(
        "copyin and copyout",
        "files, directories and patterns go in and come out; mistakes are 50",
        (
            step("--copyin", "<scratch>/one", "/var/tmp/"),
            step("--copyin", "<scratch>/one", "<scratch>/two", "/var/tmp"),
            step("--copyin", "<scratch>/one", "/builddir/renamed"),
            step("--copyin", "<scratch>/absent", "/var/tmp/"),
            step("--copyin", "<scratch>/one", "<scratch>/two", "/etc/passwd"),
            step("--copyin", "<scratch>/tree", "/var/tmp/tree"),
            step("--copyin", "<scratch>/tree", "/var/tmp/tree"),
            step("--copyin", "<scratch>/tree", "/var/tmp/tree"),
            chroot("cd /var/tmp; find . | sort; stat -c '%U %n' one tree /builddir/renamed"),
            step("--copyout", "/var/tmp/one", "<scratch>/out"),
            step("--copyout", "/var/tmp/o*", "/var/tmp/tree/a", "<results>"),
            step("--copyout", "~/renamed", "<scratch>/from-home"),
            step("--copyout", "/var/tmp/tree", "<scratch>/back"),
            step("--copyout", "/no/such/file", "<scratch>/out2"),
            step("--copyout", "/var/tmp/one", "/etc/passwd", "<scratch>/nowhere"),
        ),
        before=_INIT,
        files={"one": "1\n", "two": "2\n", "tree/a": "a\n", "tree/sub/b": "b\n"},
    ),
    Scenario(
        "packages",
        "--install, --remove, --update",
        (
            step("--install", _PACKAGE),
            chroot(f"ls {_ITS_FILE} 2>&1"),
            step("--remove", _PACKAGE),
            chroot(f"ls {_ITS_FILE} 2>&1"),
            step("--remove", "no-such-package"),
            step("--install", "no-such-package"),
            step("--update"),
        ),
        before=_INIT,
    ),
    Scenario(
        "old-style commands",
        "modes without dashes",
        (
            step("clean"),
            step("init"),
            step("install", _PACKAGE),
            step("chroot", "echo out; exit 3"),
            step("shell", "exit 3"),
            step(*_RESULTS, "rebuild", "<plain>"),
        ),
    ),
    Scenario(
        "scrub",
        "the chroot and the caches are removed",
        (
            step("--scrub=root-cache"),
            chroot("ls /var/tmp/mark 2>&1"),
            step("--scrub=chroot", "--scrub=dnf-cache"),
            chroot("ls /var/tmp/mark 2>&1"),
            step("--scrub=all"),
        ),
        before=(*_INIT, chroot("touch /var/tmp/mark")),
    ),
    Scenario(
        "uniqueext",
        "--uniqueext names another chroot",
        (
            step("--uniqueext=x", "--init"),
            step("--uniqueext=x", "--quiet", "--chroot", "touch /var/tmp/mark"),
            chroot("ls /var/tmp/mark 2>&1"),
            step("--uniqueext=x", "--quiet", "--chroot", "ls /var/tmp/mark 2>&1"),
            step("--uniqueext=x", "--clean"),
        ),
        before=_INIT,
    ),
    Scenario(
        "configuration",
        "what is only looked up",
        (
            step("--print-root-path"),
            step("-r", "no-such-config", "--init"),
            step("-r", "<scratch>/no-such.cfg", "--init"),
            step("-r", "<scratch>/broken.cfg", "--init"),
        ),
        files={"broken.cfg": "config_opts['root'] = \n"},
    ),
    Scenario(
        "network",
        "none for builds and commands unless --enable-network",
        (
            chroot("tail -n +3 /proc/net/dev | grep -vc '^ *lo:'"),
            step("--quiet", "--enable-network", "--chroot",
                 "test $(tail -n +3 /proc/net/dev | grep -vc '^ *lo:') -gt 0"),
        ),
        before=_INIT,
    ),
    Scenario(
        "left processes",
        "what a command or a build started and left is ended",
        (
            step("--chroot", f"setsid {packages.LINGERING} >/dev/null 2>&1 & sleep 0.2; echo done"),
            step("--shell", f"setsid {packages.LINGERING} >/dev/null 2>&1 & sleep 0.2; echo done"),
            step(*_RESULTS, "--no-cleanup-after", "<lingering>"),
            step("--orphanskill"),
        ),
        before=_INIT,
        process=packages.LINGERING,
    ),
    Scenario(
        "bad arguments",
        "command lines that can't be carried out, and their exit codes",
        (
            step("--rebuild"),
            step("<scratch>/no-such.src.rpm"),
            step("<scratch>/text.src.rpm"),
            step("<scratch>/directory"),
            step("--chain"),
            step("--chroot"),
            step("--install"),
            step("--remove"),
            step("--installdeps"),
            step("--copyin", "x"),
            step("--copyout", "x"),
            step("--buildsrpm"),
            step("--buildsrpm", "--spec", "<scratch>/no.spec", "--sources", "<scratch>"),
            step("--localrepo", "<scratch>/repo", "<plain>"),
            step("--recurse", "<plain>"),
            step("--target", "noarch,x86_64", "--init"),
            step("--isolation=none", "--init"),
            step("--define", "word", "--init"),
            step("--plugin-option", "word", "--init"),
            step("--init", "word"),
            step("<plain>", "<first>"),
            step("--resultdir", "/proc/nowhere", "<plain>"),
        ),
        files={"text.src.rpm": "no package\n", "directory/file": ""},
    ),
    Scenario(
        "unknown options",
        "command lines that can't be read",
        (
            step("--config-opts", "word", "--init"),
            step("--no-such-option", "--init"),
            step("--scrub=nothing"),
        ),
    ),
)  # fmt: skip

BUILDS = (
    Scenario(
        "rebuild",
        "one source package: results, logs, the chroot that stays or goes",
        (
            step(*_RESULTS, "<plain>"),
            chroot("ls /builddir/build/RPMS 2>&1"),
        ),
    ),
    Scenario(
        "chroot kept",
        "-N keeps the chroot, -n uses it again, --cleanup-after removes it",
        (
            step(*_RESULTS, "-N", "<plain>"),
            chroot("ls /builddir/build/RPMS; touch /var/tmp/mark"),
            step(*_RESULTS, "-n", "-N", "<plain>"),
            chroot("ls /var/tmp/mark 2>&1"),
            step(*_RESULTS, "-n", "--cleanup-after", "<plain>"),
            chroot("ls /var/tmp/mark 2>&1"),
        ),
    ),
    Scenario(
        "failing builds",
        "%prep, %build or %check fails: rpmbuild's status, the logs, nothing built",
        (
            step(*_RESULTS, "<failing>"),
            step("--resultdir", "<scratch>/prep", "<prep>"),
            step("--resultdir", "<scratch>/check", "<check>"),
            step("--resultdir", "<scratch>/nocheck", "--nocheck", "<check>"),
        ),
    ),
    Scenario(
        "timeout",
        "rpmbuild takes too long",
        (step(*_RESULTS, "--rpmbuild_timeout=3", "<sleeping>"),),
    ),
    Scenario(
        "missing BuildRequires",
        "no repository has what is needed",
        (step(*_RESULTS, "<missing>"),),
    ),
    Scenario(
        "dynamic BuildRequires",
        "%generate_buildrequires asks for more",
        (step(*_RESULTS, "<dynamic>"),),
    ),
    Scenario(
        "defines and conditions",
        "--define, --with, --without, --macro-file reach rpmbuild",
        (
            step(*_RESULTS, "--with", "extra", "--define", "toy_word given", "<conditional>"),
            step("--resultdir", "<scratch>/without", "--without", "extra", "<conditional>"),
            step("--resultdir", "<scratch>/macros", "--macro-file", "<scratch>/macros.txt",
                 "-n", "<plain>"),
        ),
        files={"macros.txt": "%dist .filed\n"},
    ),
    Scenario(
        "several SRPMs",
        "one after the other; the first that fails ends it",
        (
            step(*_RESULTS, "<plain>", "<first>"),
            step("--resultdir", "<scratch>/failed", "<plain>", "<failing>", "<first>"),
        ),
    ),
    Scenario(
        "spec and sources",
        "--spec with an SRPM, with --sources, with several SRPMs; --buildsrpm",
        (
            step(*_RESULTS, "--spec", "<scratch>/toy-plain.spec", "<plain>"),
            step("--resultdir", "<scratch>/both", "--spec", "<scratch>/toy-plain.spec",
                 "--sources", "<scratch>/sources"),
            step("--resultdir", "<scratch>/srpm", "--buildsrpm", "--spec",
                 "<scratch>/toy-plain.spec", "--sources", "<scratch>/sources"),
            step(*_RESULTS, "--spec", "<scratch>/toy-plain.spec", "<plain>", "<first>"),
        ),
        files={"toy-plain.spec": packages.SPEC, "sources/a": "a\n"},
    ),
    Scenario(
        "build dependencies",
        "--installdeps of an SRPM and a spec, --additional-package",
        (
            step("--installdeps", "<dynamic>"),
            step("--installdeps", "<scratch>/toy.spec"),
            chroot(f"ls {_ITS_FILE} /usr/include/zlib.h 2>&1"),
            step(*_RESULTS, "-N", "--additional-package", "gettext", "<plain>"),
            chroot("ls /usr/bin/msgfmt 2>&1"),
        ),
        before=_INIT,
        files={"toy.spec": f"BuildRequires: {_PACKAGE}\n{packages.SPEC}"},
    ),
    Scenario(
        "offline",
        "--offline builds with what is there",
        (step(*_RESULTS, "--offline", "<plain>"),),
        before=(step("--resultdir", "<scratch>/before", "<plain>"),),
    ),
    Scenario(
        "postinstall",
        "what was built is installed",
        (
            step(*_RESULTS, "--postinstall", "-N", "<plain>"),
            chroot("ls /usr/share/toy-plain 2>&1"),
            step(*_RESULTS, "--postinstall", "<plain>"),
        ),
    ),
    Scenario(
        "rootdir",
        "the chroot is made elsewhere",
        (
            step(*_RESULTS, "--rootdir", "<scratch>/root", "<plain>"),
            step("--rootdir", "<scratch>/root", "--scrub=all"),
        ),
    ),
    Scenario(
        "calculate-build-dependencies",
        "a lock file of what a build needs",
        (step(*_RESULTS, "--calculate-build-dependencies", "<plain>"),),
    ),
)  # fmt: skip

_REPO = ("--localrepo", "<scratch>/repo")

CHAINS = (
    Scenario(
        "chain",
        "each package is built with those before; done ones are skipped the next time",
        (
            step("--chain", *_REPO, "<first>", "<second>", "<third>"),
            step("--chain", *_REPO, "<first>", "<plain>"),
        ),
    ),
    Scenario(
        "chain fails",
        "without --continue it stops at the first that fails",
        (step("--chain", *_REPO, "<second>", "<first>"),),
    ),
    Scenario(
        "chain, partly",
        "--continue: the others are built, 4",
        (step("--chain", "--continue", *_REPO, "<second>", "<first>", "<failing>"),),
    ),
    Scenario(
        "chain, recursive",
        "--recurse: failed ones are tried again as long as others succeed",
        (
            step("--chain", "--recurse", *_REPO, "<third>", "<second>", "<first>"),
            step("--chain", "--recurse", "--localrepo", "<scratch>/other", "<failing>", "<first>"),
        ),
    ),
)

ALL = (*COMMANDS, *BUILDS, *CHAINS)
