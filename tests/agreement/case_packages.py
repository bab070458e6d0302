# SPDX-License-Identifier: GPL-2.0-or-later
"""The source packages of the cases, by the placeholders that stand for them."""

from __future__ import annotations

from tests.lab import srpm
from tests.lab.srpm import Recipe

_NOARCH = "BuildArch: noarch\n"
_PLACE = "%{buildroot}%{_datadir}"


def _noarch(name: str, *, preamble: str = "", **sections: str) -> Recipe:
    return srpm.toy(name, preamble=_NOARCH + preamble, **sections)  # type: ignore[arg-type]


_TELLING = r"""
env | LC_ALL=C sort | grep -v '^RPM_\|^_='
umask; id; pwd; ulimit -c; locale 2>/dev/null | head -1
test -t 0 && echo stdin is a terminal; test -t 1 && echo stdout is a terminal
(: </dev/tty) 2>&1 | sed 's/.*: //'
cat; touch new; mkdir newdir; stat -c '%A %U:%G %n' new newdir . ..
"""
_LOUD = r"""
set +x
seq 3000
printf '%070000d\n' 7
printf 'progress 1\rprogress 2\rdone\n'
printf 'nul[\0] bell[\a] tab[\t]\n'
printf '\n\n\nafter empty lines\n'
printf 'caf\xe9 caf\xc3\xa9 \xf0\x9f\x98\x80\n' >&2
printf '\033[1;31mred\033[0m \033[Kerased\n'
printf 'no newline at the end'
"""
_ODD = (
    "a b",
    "100%",
    "plus+tilde~caret^",
    "quote'q",
    'double"d',
    "[bracket]",
    "caf\u00e9",
    "#hash",
)


def _odd_names() -> Recipe:
    made = "\n".join(
        f"echo content > '{_PLACE}/toy-odd/{name.replace('%', '%%')}'"
        for name in _ODD
        if "'" not in name
    )
    made += f"\necho content > \"{_PLACE}/toy-odd/quote'q\"\necho 'built: café'"
    return _noarch("toy-odd", install=made)


def recipes() -> dict[str, Recipe]:
    """Placeholder → recipe."""
    return {
        "macros": _noarch(
            "toy-macros",
            install="mkdir -p %{buildroot}%{_rpmconfigdir}/macros.d\n"
            "echo '%%toy_requires zlib-devel' > %{buildroot}%{_rpmconfigdir}/macros.d/macros.toy",
            files="%{_rpmconfigdir}/macros.d/macros.toy",
        ),
        "uses_macros": _noarch(
            "toy-uses-macros",
            preamble="BuildRequires: toy-macros\n%{?toy_requires:BuildRequires: %{toy_requires}}\n",
            build="ls /usr/include/zlib.h",
        ),
        "changing": Recipe(
            "toy-changing",
            srpm.toy("toy-changing", preamble=_NOARCH + "BuildRequires: zlib-devel\n").spec.replace(
                "Release: 1", "Release: %(test -e /usr/include/zlib.h && echo 2 || echo 1)"
            ),
        ),
        "two_specs": _noarch_with_source("toy-two", "another.spec", b"no spec file at all\n"),
        "odd_source": _noarch_with_source("toy-source", "we+ird~1.2^3,x=y@z#1.txt", b"odd\n"),
        "generate_fails": _noarch(
            "toy-generate-fails",
            rest="%generate_buildrequires\necho zlib-devel\necho generating >&2\nexit 3\n",
        ),
        "dynamic_prep_fails": _noarch(
            "toy-dynamic-prep-fails",
            rest="%prep\necho preparing\nexit 4\n\n%generate_buildrequires\necho zlib-devel\n",
        ),
        "levels": _noarch(
            "toy-levels",
            rest="%generate_buildrequires\necho zlib-devel\n"
            "if test -e /usr/include/zlib.h; then echo gettext; fi\n",
            build="ls /usr/include/zlib.h /usr/bin/msgfmt 2>&1",
        ),
        "dynamic_missing": _noarch(
            "toy-dynamic-missing", rest="%generate_buildrequires\necho 'lab-no-such-package > 3'\n"
        ),
        "dynamic_nothing": _noarch(
            "toy-dynamic-nothing", rest="%generate_buildrequires\ntrue\n", build="echo built"
        ),
        "unreadable": _noarch(
            "toy-unreadable", build="mkdir -p closed/below; touch closed/below/file; chmod 0 closed"
        ),
        "odd_version": Recipe(
            "toy-version",
            _noarch("toy-version").spec.replace("Version: 1", "Version: 1.0~rc1^git20240101.abc"),
        ),
        "odd_names": _odd_names(),
        "elsewhere": srpm.toy("toy-elsewhere", preamble="ExclusiveArch: s390x sparc64\n"),
        "excluded": srpm.toy("toy-excluded", preamble="ExcludeArch: x86_64 aarch64\n"),
        "telling": _noarch("toy-telling", build=_TELLING),
        "loud": _noarch("toy-loud", build=_LOUD),
        "rich": _noarch(
            "toy-rich",
            preamble="BuildRequires: (zlib-devel or lab-no-such-package)\n"
            "BuildRequires: /usr/bin/hexdump\n"
            "BuildRequires: (lab-no-such-package if lab-no-such-either)\n",
            build="ls /usr/include/zlib.h /usr/bin/hexdump",
        ),
        "conflicting": _noarch("toy-conflicting", preamble="BuildConflicts: bash\n"),
        "holding": _noarch("toy-holding", build="sleep 5 &\necho built"),
        "killed": _noarch("toy-killed", build="set +x; kill -9 $$"),
        "exit11": _noarch("toy-exit11", build="exit 11"),
        "quoting": _noarch(
            "toy-quoting",
            preamble="%bcond_with some-thing\n",
            build="cat <<'END'\nword=[%{?toy_word}] other=[%{?toy_other}]"
            " call=[%{?toy_call:%{toy_call a b}}]\n"
            "with=[%{?_with_some_thing}] without=[%{?_without_tests}]\n"
            "some=%{with some-thing} dist=%{?dist} topdir=%{_topdir} vendor=[%{?vendor}]\nEND",
        ),
        "uninstallable": _noarch("toy-uninstallable", preamble="Requires: lab-no-such-package\n"),
        "stages": _noarch("toy-stages", build="echo building", check="echo checking"),
        "dated": Recipe(
            "toy-dated",
            _noarch("toy-dated", build="echo epoch ${SOURCE_DATE_EPOCH:-none}").spec
            + "%changelog\n* Tue Nov 14 2023 Lab <lab@lab.invalid> - 1-1\n- Dated\n",
        ),
    }


def _noarch_with_source(name: str, source: str, data: bytes) -> Recipe:
    return srpm.toy(
        name,
        preamble=_NOARCH,
        sources={source: data},
        build="ls %{_sourcedir} %{_specdir}; cat %{SOURCE0}",
    )
