# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes this directory's headers and certificates: real rpmbuild, gpg, rpmsign and rpm.

Run it as ``python tests/unit/attest/data/make_headers.py`` where rpm, rpm-build, gnupg and
sqlite support are installed. The signing keys live in a temporary directory and are thrown away,
so every run makes other keys and signatures; nothing else depends on them.

NAME.hdr is a header blob as it stands in the table Packages of an rpmdb.sqlite into which rpm
installed the package; NAME.asc an armoured certificate.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from pathlib import Path

from mock_cloud.process import run

HERE = Path(__file__).parent
SHARED = """\
Name: {name}
Version: {version}
Release: 1
Summary: For tests of attestation
License: MIT
BuildArch: noarch
%global __os_install_post %{{nil}}
%description
%{{summary}}.
"""
BASE = """\
%install
cd %{buildroot}
mkdir -p usr/bin usr/sbin usr/lib64 usr/share/doc etc run tmp var/lib
ln -s usr/bin bin
ln -s usr/lib64 lib64
%files
%dir %attr(755,root,root) /
/bin
/lib64
%dir /usr
%dir /usr/bin
%dir /usr/sbin
%dir /usr/lib64
%dir /usr/share
%dir /usr/share/doc
%dir /etc
%dir /run
%dir %attr(1777,root,root) /tmp
%dir /var
%dir /var/lib
"""
TOOLS = """\
%install
mkdir -p %{buildroot}/bin %{buildroot}/usr/bin %{buildroot}/usr/sbin %{buildroot}/lib64
cd %{buildroot}
mkdir -p etc usr/share/doc usr/share/locale/de var/lib/tools
echo bash %{version} > bin/bash
ln -s bash bin/sh
echo su > usr/bin/su
echo ping > usr/bin/ping
echo grep > usr/bin/grep
ln usr/bin/grep usr/bin/egrep
echo sshd > usr/sbin/sshd
echo libc > lib64/libc.so.6
echo option=1 > etc/tools.conf
echo read me > usr/share/doc/tools.txt
echo licence > usr/share/doc/licence.txt
echo hallo > usr/share/locale/de/tools.mo
touch var/lib/tools/state
%files
%attr(755,root,root) /bin/bash
/bin/sh
%attr(4755,root,root) /usr/bin/su
%attr(755,root,root) %caps(cap_net_raw=ep) /usr/bin/ping
%attr(755,root,root) /usr/bin/grep
%attr(755,root,root) /usr/bin/egrep
%attr(755,root,root) %verify(not md5 size mtime) /usr/sbin/sshd
%attr(755,root,root) /lib64/libc.so.6
%config(noreplace) %verify(not md5 size mtime) /etc/tools.conf
%doc /usr/share/doc/tools.txt
%license /usr/share/doc/licence.txt
%dir /usr/share/locale
%dir /usr/share/locale/de
%lang(de) /usr/share/locale/de/tools.mo
%dir %attr(2750,root,mail) /var/lib/tools
%ghost /var/lib/tools/state
"""
OTHER = """\
%install
mkdir -p %{buildroot}/usr/share/doc
echo other > %{buildroot}/usr/share/doc/other.txt
%files
/usr/share/doc/other.txt
"""
KEY = """\
%no-protection
{kind}
Key-Usage: sign
Name-Real: {name}
Name-Email: {name}@test.invalid
Expire-Date: 0
%commit
"""
KINDS = {
    "distribution": "Key-Type: EDDSA\nKey-Curve: ed25519",
    "stranger": "Key-Type: RSA\nKey-Length: 2048",
}
PACKAGES = (
    ("base", "base", "1.0", BASE, "distribution"),
    ("tools", "tools", "1.0", TOOLS, "distribution"),
    ("tools-old", "tools", "0.9", TOOLS, "distribution"),
    ("tools-stranger", "tools", "1.0", TOOLS, "stranger"),
    ("tools-unsigned", "tools", "1.0", TOOLS, ""),
    ("other", "other", "1.0", OTHER, "distribution"),
)


def main(work: Path) -> None:
    env = {"GNUPGHOME": str(work / "gnupg"), "HOME": str(work), "SOURCE_DATE_EPOCH": "1700000000"}
    (work / "gnupg").mkdir(mode=0o700)
    for name, kind in KINDS.items():
        text = KEY.format(name=name, kind=kind).encode()
        run(["gpg", "--batch", "-q", "--gen-key"], timeout_s=60, stdin=text, extra_env=env)
        address = f"{name}@test.invalid"
        armoured = run(["gpg", "--armor", "--export", address], timeout_s=60, extra_env=env)
        (HERE / f"{name}.asc").write_bytes(armoured)
    for file, name, version, files, key in PACKAGES:
        package = build(work / file, SHARED.format(name=name, version=version) + files, env)
        if key:
            signing = ["--define", f"_gpg_name {key}@test.invalid"]
            signing += ["--define", "__gpg /usr/bin/gpg"]
            run(["rpmsign", *signing, "--addsign", str(package)], timeout_s=60, extra_env=env)
        (HERE / f"{file}.hdr").write_bytes(installed_header(work / file, package, env))
    (HERE / "gpg-pubkey.hdr").write_bytes(installed_header(work, None, env))


def build(work: Path, spec: str, env: dict[str, str]) -> Path:
    work.mkdir()
    (work / "package.spec").write_text(spec)
    defines = {"_topdir": str(work), "_buildhost": "test.invalid", "_gpg_name": "nobody"}
    words = [word for item in defines.items() for word in ("--define", " ".join(item))]
    run(["rpmbuild", "-bb", *words, str(work / "package.spec")], timeout_s=60, extra_env=env)
    (package,) = work.glob("RPMS/noarch/*.rpm")
    return package


def installed_header(work: Path, package: Path | None, env: dict[str, str]) -> bytes:
    """The blob after an installation; of an imported key if there is no `package`."""
    root = work / "root"
    root.mkdir()
    rpm = ["rpm", "--root", str(root), "--define", "_dbpath /var/lib/rpm"]
    if package is None:
        run([*rpm, "--import", str(HERE / "distribution.asc")], timeout_s=60, extra_env=env)
    else:
        flags = ["--nodeps", "--justdb", "--nosignature"]
        run([*rpm, "-i", *flags, str(package)], timeout_s=60, extra_env=env)
    with sqlite3.connect(root / "var/lib/rpm/rpmdb.sqlite") as database:
        ((blob,),) = database.execute("SELECT blob FROM Packages")
    return bytes(blob)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        os.umask(0o022)
        main(Path(directory))
