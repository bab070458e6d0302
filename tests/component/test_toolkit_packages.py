# SPDX-License-Identifier: GPL-2.0-or-later
"""Toolkits packed of signed packages: the lab's RPMs, small Debian archives, Debian's arm64."""

from __future__ import annotations

import hashlib
import io
import json
import lzma
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest
from measure_support import needs
from pysequoia import SignatureMode, Tsk, sign

from mock_cloud.errors import ConfigError, InputError, MockCloudError
from mock_cloud.model import Toolkit
from mock_cloud.settings import ToolkitSettings
from mock_cloud.signed.keys import PackageKeys, UnsignedError
from mock_cloud.signed.rpmfile import verify_rpm
from mock_cloud.toolkit.machines import own_arch
from mock_cloud.toolkit.pack import pack_packages
from mock_cloud.toolkit.packages import PackagesRefused, PackagesUnavailable
from mock_cloud.wire.frames import encode_frame, read_frame
from mock_cloud.wire.rpmheader import HeaderError
from tests.lab.layout import Lab
from tests.tars import unpack_own

QEMU = "qemu-aarch64-static"


def run_agent(toolkit: Toolkit, place: Path, *before: str) -> dict[str, object]:
    """Unpack the toolkit at `place`, ask its agent who it is, and measure a small tree."""
    unpack_own(toolkit.archive, place)
    argv = [*before, *(word.replace(toolkit.node_dir, str(place)) for word in toolkit.argv())]
    small = place.with_name("small")
    (small / "etc").mkdir(parents=True)
    (small / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
    ask = encode_frame({"op": "hello", "id": 1, "nonce": "n1"})
    workspace = place.with_name("work")
    workspace.mkdir()
    served = subprocess.run(
        [*argv, "serve", "--workspace", str(workspace)],
        input=ask, capture_output=True, timeout=600, check=True, env={"LC_ALL": "C"}, cwd="/",
    )  # fmt: skip
    answer = read_frame(io.BytesIO(served.stdout))
    assert answer is not None
    out = place.with_name("evidence.json")
    subprocess.run(
        [*argv, "measure", "--root", str(small), "--out", str(out)],
        capture_output=True, timeout=600, check=True, env={"LC_ALL": "C"}, cwd="/",
    )  # fmt: skip
    digest = hashlib.sha256((small / "etc/passwd").read_bytes()).hexdigest()
    assert digest in out.read_text()
    return answer[0]


@pytest.fixture(scope="module")
def rpm(request: pytest.FixtureRequest) -> bytes:
    lab: Lab = request.getfixturevalue("lab")
    return next(lab.release(1).glob("python3-minimal-*.rpm")).read_bytes()


def lab_keys(lab: Lab) -> PackageKeys:
    return PackageKeys.parse([lab.package_key.read_bytes()])


@pytest.mark.slow
@pytest.mark.lab
def test_the_lab_s_packages_make_a_toolkit(lab: Lab, tmp_path: Path) -> None:
    source = ToolkitSettings(repository=f"file://{lab.release(1)}", key=lab.package_key)
    toolkit = pack_packages(tmp_path / "cache", own_arch(), source)
    answer = run_agent(toolkit, tmp_path / "toolkit")
    assert str(answer["python"]).startswith(toolkit.python_version)
    made = toolkit.archive.stat().st_mtime_ns
    assert pack_packages(tmp_path / "cache", own_arch(), source) == toolkit
    assert toolkit.archive.stat().st_mtime_ns == made
    foreign = ToolkitSettings(repository=source.repository, key=lab.foreign_key)
    with pytest.raises(PackagesRefused, match="signed by no pinned key"):
        pack_packages(tmp_path / "cache", own_arch(), foreign)


@pytest.mark.lab
@pytest.mark.slow
def test_a_damaged_archive_in_the_cache_is_packed_anew(lab: Lab, tmp_path: Path) -> None:
    source = ToolkitSettings(repository=f"file://{lab.release(1)}", key=lab.package_key)
    toolkit = pack_packages(tmp_path, own_arch(), source)
    data = bytearray(toolkit.archive.read_bytes())
    data[len(data) // 2] ^= 1  # the same size
    toolkit.archive.write_bytes(data)
    (seen,) = tmp_path.glob("*.seen")
    dates = json.loads(seen.read_bytes())
    assert pack_packages(tmp_path, own_arch(), source).digest == toolkit.digest
    assert hashlib.sha256(toolkit.archive.read_bytes()).hexdigest() == toolkit.digest
    seen.write_text(json.dumps({name: date + 60 for name, date in dates.items()}))
    with pytest.raises(PackagesRefused, match="60 s older"):
        pack_packages(tmp_path, own_arch(), source, refresh=True)
    seen.write_text("{")
    with pytest.raises(ConfigError, match="damaged"):
        pack_packages(tmp_path, own_arch(), source, refresh=True)


@pytest.mark.lab
def test_a_package_file_is_what_was_signed_or_refused(lab: Lab, rpm: bytes) -> None:
    found = verify_rpm(rpm, lab_keys(lab))
    assert (found.name, found.arch) == ("python3-minimal", own_arch())
    with pytest.raises(HeaderError, match="payload"):
        verify_rpm(rpm[:-1] + bytes([rpm[-1] ^ 1]), lab_keys(lab))
    with pytest.raises(HeaderError, match="payload"):
        verify_rpm(rpm + b"\0", lab_keys(lab))
    with pytest.raises((HeaderError, UnsignedError)):
        verify_rpm(rpm.replace(b"python3-minimal\0", b"python4-minimal\0"), lab_keys(lab))
    with pytest.raises(UnsignedError):
        verify_rpm(rpm, PackageKeys.parse([lab.foreign_key.read_bytes()]))


@pytest.mark.lab
@pytest.mark.parametrize("cut", [0, 95, 100, 111, 400, 2000])
def test_a_cut_package_file_is_refused(lab: Lab, rpm: bytes, cut: int) -> None:
    with pytest.raises((HeaderError, UnsignedError)):
        verify_rpm(rpm[:cut], lab_keys(lab))


@pytest.mark.lab
def test_a_repository_without_the_architecture(lab: Lab, tmp_path: Path) -> None:
    source = ToolkitSettings(repository=f"file://{lab.release(1)}", key=lab.package_key)
    with pytest.raises((PackagesUnavailable, PackagesRefused), match=r"s390x|python3"):
        pack_packages(tmp_path, "s390x", source)


class Archive:
    """A Debian archive with one package, python3 for arm64."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.key = Tsk.generate("archive <archive@lab.invalid>")
        self.keyring = root / "keyring.asc"
        root.mkdir()
        self.keyring.write_bytes(str(self.key.extract_certificate()).encode())

    def source(self) -> ToolkitSettings:
        return ToolkitSettings(mirror=f"file:{self.root}", suite="lab", keyring=self.keyring)

    def publish(self, files: bytes, *, date: float | None = None, key: Tsk | None = None) -> Path:
        """The package with the tar archive `files`; returns its place."""
        control = b"Package: python3\nVersion: 3.11-1\nArchitecture: arm64\nMaintainer: lab\n"
        info = io.BytesIO()
        with tarfile.open(fileobj=info, mode="w:xz") as tar:
            member = tarfile.TarInfo("./control")
            member.size = len(control)
            tar.addfile(member, io.BytesIO(control))
        deb = b"!<arch>\n"
        for name, data in (
            ("debian-binary", b"2.0\n"),
            ("control.tar.xz", info.getvalue()),
            ("data.tar.xz", lzma.compress(files)),
        ):
            deb += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode()
            deb += data + b"\n" * (len(data) % 2)
        place = self.root / "pool/python3.deb"
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(deb)
        index = (
            control
            + (
                f"Filename: pool/python3.deb\nSize: {len(deb)}\n"
                f"SHA256: {hashlib.sha256(deb).hexdigest()}\n\n"
            ).encode()
        )
        packages = self.root / "dists/lab/main/binary-arm64/Packages"
        packages.parent.mkdir(parents=True, exist_ok=True)
        packages.write_bytes(index)
        release = (
            "Origin: Lab\nCodename: lab\nSuite: lab\nComponents: main\nArchitectures: arm64\n"
            f"Date: {formatdate(date or time.time() - 60, usegmt=True)}\nSHA256:\n"
            f" {hashlib.sha256(index).hexdigest()} {len(index)} main/binary-arm64/Packages\n"
        )
        signer = (key or self.key).signer()
        signed = sign(signer, release.encode(), mode=SignatureMode.CLEAR)
        (self.root / "dists/lab/InRelease").write_bytes(bytes(signed))
        return place


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    if shutil.which("apt-get") is None:
        pytest.skip("needs apt-get")
    yield Archive(tmp_path / "archive")


def files(name: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    return out.getvalue()


def test_what_apt_fetched_is_unpacked_in_memory_only(archive: Archive, tmp_path: Path) -> None:
    archive.publish(files("usr/share/doc/python3/README"))
    with pytest.raises(InputError, match="have no /usr/bin/python3"):
        pack_packages(tmp_path / "cache", "aarch64", archive.source())
    archive.publish(files("../../evil"))
    with pytest.raises(InputError, match=r"python3.*outside of the package"):
        pack_packages(tmp_path / "cache", "aarch64", archive.source())


def test_an_archive_that_somebody_else_signed(archive: Archive, tmp_path: Path) -> None:
    archive.publish(files("x"), key=Tsk.generate("other <other@lab.invalid>"))
    with pytest.raises(MockCloudError, match=r"no packages for arm64|no pinned key") as caught:
        pack_packages(tmp_path / "cache", "aarch64", archive.source())
    assert "--mirror" in str(caught.value.hint)


def test_a_package_that_was_changed(archive: Archive, tmp_path: Path) -> None:
    place = archive.publish(files("x"))
    data = bytearray(place.read_bytes())
    data[-8] ^= 1
    place.write_bytes(data)
    with pytest.raises((PackagesRefused, PackagesUnavailable), match=r"python3|no packages"):
        pack_packages(tmp_path / "cache", "aarch64", archive.source())


def test_an_architecture_that_the_archive_lacks(archive: Archive, tmp_path: Path) -> None:
    archive.publish(files("x"))
    with pytest.raises(PackagesUnavailable, match="no packages for s390x"):
        pack_packages(tmp_path / "cache", "s390x", archive.source())


@pytest.mark.slow
@needs("apt-get", QEMU)
def test_debian_s_arm64_packages_make_a_toolkit_that_runs(tmp_path: Path) -> None:
    """From the archive that this machine's apt is configured for, under qemu's emulation."""
    try:
        toolkit = pack_packages(tmp_path / "cache", "aarch64", ToolkitSettings())
    except PackagesUnavailable as error:
        pytest.skip(f"needs an archive with arm64: {error.message}")
    answer = run_agent(toolkit, tmp_path / "toolkit", QEMU)
    assert "aarch64" in str(answer["uname"])
    assert toolkit.archive.stat().st_size < 10_500_000
