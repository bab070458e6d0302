# SPDX-License-Identifier: GPL-2.0-or-later
"""Small cases after public reports of what broke for users of mock and of what is built on it.

`source` names the tracker and the number there. `shows` is what real mock does.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.agreement import packages
from tests.agreement.model import Scenario, Step

_RESULTS = ("--resultdir", "<results>")
_RPM = "rpm -qp --nosignature --qf"


def step(*words: str, stdin: bytes | None = None, script: str = "") -> Step:
    return Step(words, stdin, script)


def build(*words: str, script: str = "") -> Step:
    return step(*_RESULTS, *words, script=script)


def chroot(command: str) -> Step:
    """A look into the chroot as it is."""
    return step("--quiet", "--chroot", command)


def look(script: str) -> Step:
    """A look at what there is on this machine."""
    return step(script=script)


def case(
    name: str,
    source: str,
    shows: str,
    *steps: Step,
    before: tuple[Step, ...] = (),
    files: Mapping[str, str] | None = None,
    prepare: str = "",
) -> Scenario:
    return Scenario(
        name, shows, steps, before, files or {}, prepare=prepare, details=True, source=source
    )


_INIT = (step("--init"),)
_SPECS = {"toy-plain.spec": packages.SPEC}

SOURCES = (
    case(
        "spec that only its owner may read", "mock 1179, 1300",
        "--spec and a source of mode 0600 are built like others",
        build("--spec", "<scratch>/toy-plain.spec", "<plain>"),
        step("--buildsrpm", "--resultdir", "<scratch>/srpm", "--spec", "<scratch>/toy-plain.spec",
             "--sources", "<scratch>/sources"),
        files={**_SPECS, "sources/a": "a\n"},
        prepare="chmod 600 toy-plain.spec sources/a",
    ),
    case(
        "source package by odd paths", "fpm 209, 1773; mock 746",
        "blanks, links, relative paths and other names lead to the same package",
        step("--resultdir", "<scratch>/1", "<scratch>/with blank/a b.src.rpm"),
        step("--resultdir", "<scratch>/2", "link.src.rpm"),
        step("--resultdir", "<scratch>/3", "./with blank/../100%+~^.src.rpm"),
        step("--resultdir", "<scratch>/4", "<scratch>/caf\u00e9'.src.rpm"),
        step("--resultdir", "<scratch>/5", "noextension"),
        step("--resultdir", "<scratch>/6", "[1].src.rpm"),
        prepare="mkdir 'with blank'; cp <plain> 'with blank/a b.src.rpm'; ln -s <plain> "
        "link.src.rpm; cp <plain> 100%+~^.src.rpm; cp <plain> \"café'.src.rpm\"; "
        "cp <plain> noextension; cp <plain> '[1].src.rpm'",
    ),
    case(
        "no spec file in the source package", "rpm 1386",
        "the package is refused by name, 40",
        build("<scratch>/toy-nospec-1-1.src.rpm"),
        files={"toy-nospec.txt": packages.SPEC.replace("toy-plain", "toy-nospec")},
        prepare="rpmbuild -bs --quiet --nodeps --undefine dist -D '_srcrpmdir <scratch>' "
        "-D '_dbpath /var/lib/rpm' toy-nospec.txt",
    ),
    case(
        "two spec files in the source package", "rpm 1386",
        "the first by name is taken, and here it is no spec file: 1",
        build("<two_specs>"),
    ),
    case(
        "odd names of sources", "autospec 264",
        "plus, tilde, caret, comma, at and number signs in a source's name",
        build("<odd_source>"),
    ),
    case(
        "links among the sources", "mock 631; packit 1637",
        "links travel as links; --symlink-dereference needs their targets",
        step("--buildsrpm", "--resultdir", "<scratch>/1", "--spec", "<scratch>/toy-plain.spec",
             "--sources", "<scratch>/sources"),
        step("--buildsrpm", "--resultdir", "<scratch>/2", "--spec", "<scratch>/toy-plain.spec",
             "--sources", "<scratch>/link-to-sources"),
        step("--buildsrpm", "--symlink-dereference", "--resultdir", "<scratch>/3", "--spec",
             "<scratch>/toy-plain.spec", "--sources", "<scratch>/sources"),
        files={**_SPECS, "sources/a": "a\n"},
        prepare="ln -s a sources/good; ln -s nowhere sources/broken; ln -s .. sources/up; "
        "ln -s sources link-to-sources; rm sources/up",
    ),
    case(
        "tilde and caret in the version", "rpm 3159, 3160; mock 746",
        "they are in the names of the results",
        build("<odd_version>"),
        look(f"{_RPM} '%{{NEVRA}} %{{SOURCERPM}}\\n' results/*.rpm"),
    ),
    case(
        "odd file names in a package", "fpm 209, 1269; rpm 1644",
        "blanks, quotes, percent signs and brackets are packaged",
        build("<odd_names>"),
        look(f"{_RPM} '[%{{FILENAMES}}\\n]' results/*.noarch.rpm"),
    ),
)  # fmt: skip

REQUIREMENTS = (
    case(
        "requirements by a macro that a requirement brings", "mock 1652, 593",
        "the source package is made again until nothing more is wanted",
        step("--chain", "--localrepo", "<scratch>/repo", "<macros>", "<uses_macros>"),
    ),
    case(
        "release that a requirement changes", "mock 1344",
        "two source packages of one build are refused, 40",
        build("<changing>"),
    ),
    case(
        "generated requirements fail", "mock 570, 581",
        "%generate_buildrequires and %prep before it end the build with 10",
        build("<generate_fails>"),
        build("<dynamic_prep_fails>"),
    ),
    case(
        "generated requirements in two levels", "rpm 755; mock 1246",
        "what was installed may ask for more; nothing generated is no fault",
        build("<levels>"),
        look(f"{_RPM} '[%{{REQUIRES}}\\n]' results/*.src.rpm | grep -v rpmlib"),
        build("<dynamic_nothing>"),
    ),
    case(
        "generated requirements that nobody has", "mock 434",
        "30, as with a static one",
        build("<dynamic_missing>"),
    ),
    case(
        "generated requirements, no second look", "mock 434",
        "with dynamic_buildrequires_max_loops=1 the build goes on with what there is",
        build("--config-opts", "dynamic_buildrequires_max_loops=1", "<levels>"),
    ),
    case(
        "generated requirements are off", "mock 245",
        "dynamic_buildrequires=False refuses the package",
        build("--config-opts", "dynamic_buildrequires=False", "<dynamic>"),
    ),
    case(
        "rich requirements and files", "rpm 1216; dnf5 2361",
        "boolean expressions and paths are resolved by the package manager",
        build("<rich>"),
    ),
    case(
        "build conflicts", "libdnf 1527; mock 251",
        "a package that is installed and conflicts is left alone",
        build("<conflicting>"),
    ),
    case(
        "installdeps of a spec with conditions", "mock 162, 1589",
        "macros and conditions of the spec file are expanded",
        step("--installdeps", "<scratch>/toy.spec"),
        chroot("ls /usr/bin/hexdump /usr/include/zlib.h /usr/bin/msgfmt 2>&1"),
        before=_INIT,
        files={"toy.spec": "%global tool bsdextrautils\n%if 0%{?no_such_macro}\n"
               "BuildRequires: gettext\n%endif\nBuildRequires: %{tool}\n"
               "BuildRequires: zlib-devel >= 1\n" + packages.SPEC},
    ),
    case(
        "not for this architecture", "copr 2870",
        "ExclusiveArch and ExcludeArch end the build as rpmbuild does",
        build("<elsewhere>"),
        build("<excluded>"),
    ),
    case(
        "targets", "rpm 3172, 3130; mock 435",
        "--target and --arch for packages without an architecture",
        build("--target", "noarch", "<plain>"),
        build("--arch", "x86_64", "--target", "x86_64", "<plain>"),
    ),
    case(
        "built, but cannot be installed", "mock 42, 1207",
        "--postinstall ends with 30, and all that was built is there",
        build("--postinstall", "<uninstallable>"),
    ),
    case(
        "install before anything else", "mock 1183",
        "a chroot is made, no result directory is needed",
        step("--install", "bsdextrautils"),
        chroot("ls /usr/bin/hexdump"),
        before=(step("--clean"),),
    ),
)  # fmt: skip

_MACROS_CFG = """\
config_opts['macros']['toy_word'] = 'no percent sign before it'
config_opts['macros']['%toy_other'] = '100%% and {{ dist }}'
config_opts['macros']['%toy_call()'] = '<%1|%2>'
config_opts['macros']['%vendor'] = "Somebody's \\"Vendor\\""
"""

MACROS = (
    case(
        "values of --define", "rpmdistro-gitoverlay 45; rpm 1439, 569",
        "blanks, quotes and percent signs arrive as with rpmbuild",
        build("--define", "toy_word  two  words ", "--define=toy_other it's \"quoted\"",
              "-D", "toy_call() <%1|%2>", "<quoting>"),
        step("--resultdir", "<scratch>/2", "-D", "toy_word 100%%", "-D",
             "toy_other %{name}-%version", "-D", "vendor A  B", "-D", "dist .given", "<quoting>"),
        step("-D", "vendor  ", "--init"),
        step("--resultdir", "<scratch>/3", "-D", "toy_word $HOME `id` \\n", "-D", "%toy_other sign",
             "<quoting>"),
    ),
    case(
        "--with and --without", "mock 582",
        "names with dashes, twice, both ways",
        build("--with", "some-thing", "--with=some_thing", "--without", "tests", "<quoting>"),
        step("--resultdir", "<scratch>/2", "--without", "some-thing", "<quoting>"),
    ),
    case(
        "--rpmbuild-opts", "rpmdistro-gitoverlay 45; mock 1730",
        "a shell on the way splits them; --undefine is one of rpmbuild's",
        build("--rpmbuild-opts", "--define 'toy_word a b' --undefine=dist", "<quoting>"),
        step("--resultdir", "<scratch>/2", "--rpmbuild-opts=--define \"toy_word $(echo x)\"",
             "<quoting>"),
        step("--resultdir", "<scratch>/3", "--rpmbuild-opts=--no-such-option", "<quoting>"),
    ),
    case(
        "macros of a configuration", "mock 605",
        "a name without a percent sign is taken, too; values keep their signs",
        step("-r", "<scratch>/my.cfg", *_RESULTS, "<quoting>"),
        files={"macros.cfg": _MACROS_CFG},
        prepare="{ echo \"include('<config>/<chroot>.cfg')\"; cat macros.cfg; } > my.cfg",
    ),
    case(
        "reproducible times", "mock 692; rpm 2679",
        "SOURCE_DATE_EPOCH comes of macros, never of the caller's environment",
        build("-D", "source_date_epoch_from_changelog 1", "-D",
              "use_source_date_epoch_as_buildtime 1", "-D", "clamp_mtime_to_source_date_epoch 1",
              "-D", "_buildhost lab.invalid", "<dated>", script='SOURCE_DATE_EPOCH=1 "$@"'),
        look(f"{_RPM} '%{{BUILDTIME}} %{{BUILDHOST}} [%{{FILEMTIMES}} ]\\n' results/*.noarch.rpm"),
    ),
)  # fmt: skip

_CRON = (
    'env -i PATH="$PATH" XDG_STATE_HOME="$XDG_STATE_HOME" XDG_CACHE_HOME="$XDG_CACHE_HOME"'
    ' SUDO_UID="$SUDO_UID" SUDO_GID="$SUDO_GID" SUDO_USER="$SUDO_USER"'
    ' setsid --wait "$@" </dev/null'
)
_FOREIGN = (
    "TOY=outside CFLAGS=-bad MAKEFLAGS=-n LD_LIBRARY_PATH=/nowhere BASH_ENV=/nowhere ENV=/nowhere"
    " RPM_BUILD_NCPUS=7 TMPDIR=/nowhere TZ=Asia/Tokyo LANG=de_DE.UTF-8 TERM=xterm EDITOR=false"
    ' XDG_RUNTIME_DIR=/nowhere HTTPS_PROXY= "$@"'
)

SURROUNDINGS = (
    case(
        "working directory that is gone", "mock 780",
        "mock starts there all the same",
        step("--quiet", "--chroot", "pwd",
             script='mkdir gone; cd gone; rmdir ../gone; "$@"'),
        before=_INIT,
    ),
    case(
        "umask", "mock 1676; copr 3906; fpm 1479",
        "the caller's umask changes neither the chroot nor the results",
        build("<telling>", script='umask 077; "$@"'),
        step("--quiet", "--chroot", "umask; touch /var/tmp/f; mkdir /var/tmp/d; stat -c %A "
             "/var/tmp/f /var/tmp/d", script='umask 000; "$@"'),
        step("--quiet", "--shell", "umask", script='umask 027; "$@"'),
    ),
    case(
        "locale of the caller", "mock 176, 252, 68",
        "ASCII only, or a locale that is not there: the same build",
        build("<odd_names>", script='LC_ALL=C "$@"'),
        step("--resultdir", "<scratch>/2", "<odd_names>", script='LC_ALL=xx_YY.UTF-8 "$@"'),
        step("--quiet", "--chroot", "echo caf\u00e9; printf 'caf\\xe9\\n'", script='LC_ALL=C "$@"'),
    ),
    case(
        "cron", "hermes-agent 18590; giternity 6",
        "no terminal, no HOME, next to no environment",
        build("<plain>", script=_CRON),
        step("--quiet", "--chroot", "echo $HOME $TERM", script=_CRON),
        step("--quiet", "--shell", "echo $HOME $TERM", script=_CRON),
    ),
    case(
        "environment of the caller", "ros_buildfarm 756; mock 18, 1382",
        "none of it is in the build or in a command",
        build("<telling>", script=_FOREIGN),
        step("--quiet", "--chroot", "env | LC_ALL=C sort", script=_FOREIGN),
        step("--quiet", "--shell", "env | LC_ALL=C sort | grep -v ^_=", script=_FOREIGN),
    ),
    case(
        "home in the chroot", "mock 1364, 48",
        "the build user may write to it",
        step("--quiet", "--unpriv", "--chroot", "touch ~/new && "
             "stat -c '%A %U %n' ~ ~/new ~/build"),
        step("--quiet", "--unpriv", "--shell", "touch ~/other && stat -c '%A %U %n' ~/other"),
        before=_INIT,
    ),
    case(
        "standard input of commands", "mock 432, 136; rpm 978",
        "--chroot has none, --shell has the caller's",
        step("--quiet", "--chroot", "cat; echo end", stdin=b"given\n"),
        step("--quiet", "--shell", "cat; echo end", stdin=b"given\n"),
        step("--quiet", "--shell", "cat; echo end", script='"$@" <&-'),
        step("--quiet", "--chroot", "test -t 1 || echo no terminal; exec 3</dev/tty"),
        before=_INIT,
    ),
    case(
        "what is in /dev", "mock 33, 201",
        "the usual devices, and no terminal of the caller's",
        step("--quiet", "--chroot",
             "cd /dev; stat -c '%A %U:%G %t:%T %n' full null random tty urandom zero ptmx; "
             "for l in fd stdin stdout stderr; do readlink $l; done; ls -d pts shm; "
             "echo x > /dev/shm/x && echo shared memory works; "
             "stat -c '%A %U %n' /tmp /var/tmp"),
        before=_INIT,
    ),
    case(
        "login shells of the build", "mock 1382",
        "/etc/profile.d of the chroot is read, .bash_profile of an earlier command is gone",
        chroot("echo 'export TOY_PROFILE=read' > /etc/profile.d/toy.sh; "
               "echo 'export TOY_HOME=read' > /builddir/.bash_profile"),
        build("-n", "<telling>"),
        before=_INIT,
    ),
    case(
        "two at once", "mock 1071, 1394",
        "with --uniqueext each has its own chroot",
        step(*("--quiet", "--resultdir"),
             script='"$@" <scratch>/a --uniqueext=a <plain> & '
             '"$@" <scratch>/b --uniqueext=b <first>; code=$?; wait $! && exit $code'),
    ),
)  # fmt: skip

_SQUASH = 'unshare --mount python3 <squash> <results> $SUDO_UID "$@"'

RESULTS = (
    case(
        "result directory by odd paths", "mock 977, 1183",
        "links, relative paths, blanks, percent signs and missing parents are directories",
        step("--resultdir", "<scratch>/link", "<plain>"),
        step("--resultdir", "rel/ative/", "<plain>"),
        step("--resultdir", "<scratch>/a b/100%/{{ c }}", "<plain>"),
        prepare="mkdir target; ln -s target link",
    ),
    case(
        "result directory is full", "mock 1331",
        "one line says so, without a traceback",
        build("<loud>", script="unshare -m bash -c 'mount -t tmpfs -o size=64k,mode=777 tmpfs "
              "<results>; \"$@\"' bash \"$@\""),
    ),
    case(
        "result directory on NFS", "mock 144, 341; xenserver-buildroot 349",
        "root may write nothing there, the user may: the results are the user's",
        build("<plain>", script=_SQUASH),
        build("<failing>", script=_SQUASH),
        step("--init", *_RESULTS, script=_SQUASH),
    ),
    case(
        "results that are there", "xenserver-buildroot 143; tito 178",
        "a read-only package of the same name is not copied over, 1; others stay",
        build("<plain>"),
        prepare="cd results; echo old > toy-plain-1-1.lab1.noarch.rpm; "
        "echo old > toy-plain-0-1.noarch.rpm; chmod 444 *.rpm",
    ),
    case(
        "a chain with things that are no packages", "mock 163, 1457, 267",
        "what is missing or no package is named, and the end is 4; --continue builds the rest",
        step("--chain", "--localrepo", "<scratch>/repo", "--continue", "<scratch>/absent.src.rpm",
             "<scratch>/text.txt", "<plain>"),
        step("--chain", *_RESULTS, "<plain>"),
        files={"text.txt": "no package\n"},
    ),
    case(
        "stages by themselves", "mock 1504, 1808",
        "--short-circuit works on what an earlier build left, and gives no packages",
        build("-N", "<stages>"),
        build("-n", "-N", "--short-circuit=install", "<stages>"),
        build("-n", "--short-circuit=binary", "<stages>"),
    ),
    case(
        "directories that may not be entered", "mock 1081",
        "what a build closes to itself is removed before the next",
        build("-N", "<unreadable>"),
        build("-n", "<plain>"),
    ),
    case(
        "packages of an earlier build", "tito 435",
        "with -n nothing of an earlier build is among the results",
        build("-N", "<plain>"),
        step("--resultdir", "<scratch>/2", "-n", "<first>"),
    ),
    case(
        "much output, and odd output", "mock 252, 1014; spack 20410",
        "long lines, control characters and broken UTF-8 are in build.log as text",
        build("<loud>"),
    ),
    case(
        "verbose", "mock 1302",
        "--verbose changes neither log",
        build("--verbose", "<stages>"),
        look("grep -c 'echo building' results/root.log results/build.log"),
    ),
    case(
        "a process that keeps the output", "rpm 134",
        "the build ends when its output does",
        build("<holding>"),
    ),
    case(
        "how a build ends", "mock 32",
        "a signal and odd statuses of %build are rpmbuild's 1",
        build("<killed>"),
        build("<exit11>"),
    ),
)  # fmt: skip

_FILES_CFG = """\
config_opts['files']['etc/toy.conf'] = 'key = 100% {{ root }}\\n'
config_opts['files']['/var/lib/toy/deep'] = 'deep'
config_opts['environment']['TOY_ENV'] = 'a b "c"'
config_opts['extra_chroot_dirs'].append('/srv/toy dir')
config_opts['chroot_additional_packages'] = 'bsdextrautils'
"""

CONFIGURATION = (
    case(
        "files and environment of a configuration", "mock 775; ros_buildfarm 755",
        "files, variables, directories and packages are in the chroot",
        step("-r", "<scratch>/my.cfg", "--init"),
        step("-r", "<scratch>/my.cfg", "--quiet", "--chroot",
             "cat /etc/toy.conf /var/lib/toy/deep; echo; echo $TOY_ENV; ls -d '/srv/toy dir'; "
             "ls /usr/bin/hexdump; stat -c '%A %U %n' /etc/toy.conf /var/lib/toy"),
        step("-r", "<scratch>/my.cfg", "--clean"),
        files={"files.cfg": _FILES_CFG},
        prepare="{ echo \"include('<config>/<chroot>.cfg')\"; cat files.cfg; } > my.cfg",
    ),
    case(
        "configuration by odd paths", "mock 350, 563, 859",
        "a link to it, a blank in its name, a relative path",
        step("-r", "<scratch>/my own.cfg", "--quiet", "--chroot", "echo first"),
        step("-r", "./link.cfg", "--quiet", "--chroot", "echo second"),
        before=_INIT,
        prepare="cp <config>/<chroot>.cfg 'my own.cfg'; ln -s 'my own.cfg' link.cfg",
    ),
    case(
        "result directory of a configuration", "mock 321",
        "config_opts['resultdir'] is a template",
        step("-r", "<scratch>/my.cfg", "<plain>"),
        prepare="{ echo \"include('<config>/<chroot>.cfg')\"; "
        "echo \"config_opts['resultdir'] = '<scratch>/of {{ root }}'\"; } > my.cfg",
    ),
)  # fmt: skip

SCRIPTS = (
    case(
        "words of scripts", "as anda and CI scripts call it",
        "what a job does not need is no obstacle: an empty --umount, its own architecture, a "
        "setting that no package uses",
        step("--umount"),
        step("--forcearch", "x86_64", "--init"),
        step("--config-opts", "external_buildrequires=True", "--init"),
        step("--config-opts", "external_buildrequires=True", *_RESULTS, "<plain>"),
        step("--print-root-path"),
        before=_INIT,
    ),
    case(
        "packages are downloaded", "as ros_buildfarm calls it",
        "the package manager writes into the caller's directory, or the one that is named",
        step("--dnf-cmd", "--", "install", "-y", "--downloadonly", "--downloaddir=.", "psmisc"),
        step("--dnf-cmd", "--", "install", "-y", "--downloadonly",
             "--downloaddir=<scratch>/named", "psmisc"),
        before=_INIT,
        prepare="mkdir named",
    ),
)  # fmt: skip

LAYERS = (
    case(
        "files of packages are changed in place", "the kernel's overlayfs.rst",
        "names of one file stay that, and who has it open sees what is written",
        chroot("f=/usr/bin/gunzip; stat -c %h $f; i=$(stat -c %i $f); echo '# end' >> $f; "
               "test $i = $(stat -c %i $f) && echo the same number; "
               "tail -n 1 /usr/bin/uncompress; cmp $f /usr/bin/uncompress"),
        chroot("f=/usr/bin/zdiff; exec 3< $f; echo '# end' >> $f; "
               "tail -n 1 <&3; tail -n 1 $f"),
        chroot("d=/usr/share/awk; mv $d $d.old && mkdir $d && ls -A $d && "
               "mv $d.old $d/old && "
               "ls $d; rm -r $d && mkdir $d && ls -A $d"),
        before=_INIT,
    ),
)  # fmt: skip

ALL = (*SOURCES, *REQUIREMENTS, *MACROS, *SURROUNDINGS, *RESULTS, *CONFIGURATION, *SCRIPTS, *LAYERS)
