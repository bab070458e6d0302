# SPDX-License-Identifier: GPL-2.0-or-later
"""The source packages of the scenarios, by the placeholders that stand for them."""

from __future__ import annotations

from tests.lab import srpm
from tests.lab.srpm import Recipe

_NOARCH = "BuildArch: noarch\n"
_PREP = """\
Name: toy-prep
Version: 1
Release: 1
Summary: A toy: its %prep fails
License: CC0-1.0
BuildArch: noarch

%description
A package to test builders with.

%prep
echo preparing
exit 3

%files
"""

_EVERYTHING = """\
Name: toy-everything
Version: 2
Release: 3%{?dist}
Epoch: 1
Summary: A bit of everything that a package can have
License: CC0-1.0
Source0: text
BuildRequires: gcc

%description
A package to compare builds with.

%package data
Summary: Its data
BuildArch: noarch
Requires(post): bash

%description data
What has no architecture.

%prep
%setup -q -c -T

%build
echo 'int main(void) { return 0; }' > everything.c
gcc %{optflags} -g everything.c -o everything

%install
install -D everything %{buildroot}%{_bindir}/everything
install -D -m 644 %{SOURCE0} %{buildroot}%{_sysconfdir}/everything.conf
mkdir -p %{buildroot}%{_datadir}/everything/empty %{buildroot}%{_localstatedir}/lib/everything
ln -s ../../bin/everything %{buildroot}%{_datadir}/everything/link
ln %{buildroot}%{_sysconfdir}/everything.conf %{buildroot}%{_sysconfdir}/everything.hard
echo data > %{buildroot}%{_datadir}/everything/data
touch %{buildroot}%{_localstatedir}/lib/everything/state

%pre
echo before
%post -p /bin/bash
echo after
%preun
echo leaving
%postun
echo left
%triggerin -- bash
echo bash came
%filetriggerin data -- /usr/share/everything
cat
%transfiletriggerin -- /usr/bin
cat

%files
%attr(2755,root,mail) %caps(cap_net_raw=ep) %{_bindir}/everything
%config(noreplace) %{_sysconfdir}/everything.conf
%{_sysconfdir}/everything.hard
%ghost %attr(0600,root,root) %{_localstatedir}/lib/everything/state

%files data
%{_datadir}/everything

%changelog
* Tue Nov 14 2023 Lab <lab@lab.invalid> - 1:2-3
- Everything
"""

COMPARED = ("hello", "plain", "native", "everything")
"""What is compared at level L1."""

LINGERING = "sleep 8642.75"
"""What `<lingering>` leaves running."""


def recipes() -> dict[str, Recipe]:
    """Placeholder → recipe. `first`, `second`, `third` need those before them."""
    return {
        "plain": srpm.plain(),
        "failing": srpm.failing(),
        "prep": Recipe("toy-prep", _PREP),
        "check": srpm.failing_check(),
        "missing": srpm.missing_requirement(),
        "dynamic": srpm.dynamic(),
        "conditional": srpm.conditional(),
        "sleeping": srpm.sleeping(120),
        "native": srpm.native(),
        "everything": Recipe("toy-everything", _EVERYTHING, {"text": b"key = value\n"}),
        "lingering": srpm.toy(
            "toy-lingering", preamble=_NOARCH, build=f"setsid {LINGERING} >/dev/null 2>&1 &"
        ),
        "first": srpm.toy("toy-first", preamble=_NOARCH),
        "second": srpm.toy("toy-second", preamble=_NOARCH + "BuildRequires: toy-first\n"),
        "third": srpm.toy("toy-third", preamble=_NOARCH + "BuildRequires: toy-second\n"),
    }


SPEC = srpm.plain().spec
"""The spec file of `<plain>`."""
