# SPDX-License-Identifier: GPL-2.0-or-later
"""Images from bake to build: one user bakes and shares, another one builds on what was shared."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mock_cloud.cloud.images import TAG_BAKE, TAG_MANIFEST
from mock_cloud.model import KeyPair
from mock_cloud.sshkeys import make_key_pair
from tests.integration.conftest import BIN, Ended, User, new_user
from tests.integration.ec2_remote import with_changed_user_data
from tests.lab.clouds import ec2 as lab_ec2
from tests.lab.clouds import openstack as lab_openstack
from tests.lab.clouds.cloud import Cloud
from tests.lab.clouds.ec2 import Ec2Cloud
from tests.lab.clouds.machines import Machine
from tests.lab.clouds.openstack import OpenStackCloud
from tests.lab.layout import Lab
from tests.waiting import wait_for

pytestmark = pytest.mark.lab

PACKAGE, PROGRAM = "patch", "/usr/bin/patch"
FRIEND = "210987654321"


def table(cloud: Cloud) -> str:
    """What a remote's file says of the lab's cloud."""
    if isinstance(cloud, Ec2Cloud):
        return f'[ec2]\nregion = "{lab_ec2.REGION}"\nendpoint = "{cloud.url}"'
    return f'[openstack]\ncloud = "lab"\nregion = "{lab_openstack.REGION}"'


def credentials(cloud: Cloud, place: Path) -> dict[str, str]:
    """Environment variables by which a user of the lab's cloud is known."""
    if isinstance(cloud, Ec2Cloud):
        return {
            "AWS_ACCESS_KEY_ID": lab_ec2.ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": lab_ec2.SECRET_KEY,
        }
    assert isinstance(cloud, OpenStackCloud)
    names = {"username": lab_openstack.USER, "password": lab_openstack.PASSWORD}
    auth = {"auth_url": f"{cloud.auth_url}/v3", **names, "project_name": lab_openstack.PROJECT}
    entry = {"auth": auth, "compute_service_name": lab_openstack.COMPUTE}
    file = place / "clouds.yaml"
    file.write_text(json.dumps({"clouds": {"lab": entry}}))  # JSON is YAML
    file.chmod(0o600)
    return {"OS_CLIENT_CONFIG_FILE": str(file)}


@dataclass(frozen=True)
class Baker:
    """Somebody with a home, a state and a remote file of their own."""

    user: User
    cloud: Cloud
    lab: Lab
    key: KeyPair = field(default_factory=make_key_pair)

    @property
    def sign_key(self) -> Path:
        return self.user.place / "image-key"

    def write_remote(self, image: str, manifest: Path | None, *keys: Path) -> None:
        """A remote that boots `image` and keeps nothing. `keys` verify `manifest`."""
        is_ec2 = isinstance(self.cloud, Ec2Cloud)
        provider = "ec2" if is_ec2 else "openstack"
        size = "t3.small" if is_ec2 else lab_openstack.FLAVOR
        arch = self.user.config.arch
        text = (
            f'[remote]\nprovider = "{provider}"\narches = ["{arch}"]\n'
            f"{table(self.cloud)}\n"
            f'[node.{arch}]\nimages = ["{image}"]\nsizes = ["{size}"]\n'
            + ("" if manifest is None else f'manifest = "{manifest}"\n')
            + "[lease]\nidle_ttl = 0\n[attest]\n"
            + f"manifest_keys = {json.dumps([str(key) for key in keys])}\n"
            f'package_keys = ["{self.lab.package_key}"]\nunsafe_containers = true\n'
        )
        (self.user.config.path / "remotes.d/cloud.toml").write_text(text)

    def image(self, action: str, *words: str | Path) -> Ended:
        where = ("--configdir", self.user.config.path)
        return self.user.cloud("image", action, "cloud", *words, *where)

    def bake(self, *words: str | Path, release: int = 1) -> Ended:
        repo = f"{self.cloud.repository_url}/{release}"
        options = ("--sign-key", self.sign_key, "--repo", repo, "--package", PACKAGE)
        return self.image("bake", *options, *words)

    def images(self) -> list[dict[str, object]]:
        listed = self.image("list", "--json").expect().stdout
        found: list[dict[str, object]] = json.loads(listed)
        return found


def make_baker(place: Path, cloud: Cloud, lab: Lab, cache: Path) -> Baker:
    config = cloud.write_config(place / "etc")
    user = new_user(place, config, cache, "--remote", "cloud", extra=credentials(cloud, place))
    baker = Baker(user, cloud, lab)
    descriptor = os.open(baker.sign_key, os.O_WRONLY | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(baker.key.private.reveal())
    public = baker.sign_key.with_suffix(".pub")
    public.write_text(f"{baker.key.public}\n")
    baker.write_remote(cloud.image_id, cloud.manifest, lab.manifest_key, public)
    return baker


@pytest.fixture(scope="session", params=["ec2", pytest.param("openstack", marks=pytest.mark.slow)])
def either_cloud(request: pytest.FixtureRequest) -> Cloud:
    """Of the session, so that the guard against leaks saw it before."""
    cloud: Cloud = request.getfixturevalue(f"{request.param}_cloud")
    return cloud


@pytest.fixture
def baker(either_cloud: Cloud, lab: Lab, tmp_path: Path) -> Iterator[Baker]:
    either_cloud.reset()
    baker = make_baker(tmp_path / "baker", either_cloud, lab, tmp_path / "cache")
    yield baker
    either_cloud.reset()


def snapshots(cloud: Cloud, tag: str) -> int:
    """How many disks of images the cloud keeps apart from them, with this tag."""
    if not isinstance(cloud, Ec2Cloud):
        return 0
    wanted = [{"Name": "tag-key", "Values": [tag]}]
    return len(cloud.client.describe_snapshots(Filters=wanted)["Snapshots"])


@contextmanager
def disk_of(cloud: Cloud, image: str, place: Path) -> Iterator[Path]:
    """The file system behind an image, to be changed."""
    place.mkdir()
    subprocess.run(["mount", "-o", "loop", cloud.disk(image), place], check=True, timeout=600)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True, timeout=600)


@pytest.mark.slow
def test_another_user_attests_what_was_baked_and_shared(baker: Baker, tmp_path: Path) -> None:
    baked = baker.bake().expect()
    assert "a node of the image is trusted by the new manifest" in baked.stderr
    (image,) = baker.cloud.listing().images
    assert f'images = ["{image}"]' in baked.stdout and baker.cloud.nodes() == ()
    (row,) = (one for one in baker.images() if one["image"] == image)
    assert (row["standing"], row["state"], row["shared_with"]) == ("verified", "available", [])
    report = Path(f"{row['manifest_file']}.report").read_text()
    assert f"package: {PACKAGE}-" in report and PROGRAM not in report
    assert "authorized_keys" not in report and "ssh_host" not in report

    assert snapshots(baker.cloud, TAG_BAKE) == 0
    assert snapshots(baker.cloud, TAG_MANIFEST) == isinstance(baker.cloud, Ec2Cloud)

    out = tmp_path / "for-friend"
    shared = baker.image("share", image, "--with", FRIEND, "--export", out).expect()
    manifest, *keys = map(Path, shared.stdout.split())
    (row,) = (one for one in baker.images() if one["image"] == image)
    assert row["shared_with"] == [FRIEND]

    friend = make_baker(tmp_path / "friend", baker.cloud, baker.lab, baker.user.cache)
    friend.write_remote(image, manifest, *keys)
    where = ("--configdir", friend.user.config.path)
    verdict = json.loads(friend.user.cloud("attest", "cloud", "--json", *where).expect().stdout)
    assert verdict["trusted"] and verdict["manifest_sha256"] == row["manifest"]
    assert baker.cloud.nodes() == ()
    with disk_of(baker.cloud, image, tmp_path / "disk") as disk:
        program = bytearray((disk / PROGRAM[1:]).read_bytes())
        program[5000] ^= 1
        (disk / PROGRAM[1:]).write_bytes(program)
    refused = friend.user.cloud("attest", "cloud", *where).expect(77)
    reasons = [line for line in refused.stdout.splitlines() if line.startswith("refused:")]
    assert len(reasons) == 1 and reasons[0].startswith(f"refused: file.digest: {PROGRAM}")


@contextmanager
def bake_of_newer_packages(baker: Baker, code: int = 0) -> Iterator[Machine]:
    """The machine of a bake, of a trusted base image, as it is about to be upgraded.

    The repository has newer packages than it: release 2 of the lab's. The bake must end with
    `code`.
    """
    argv = [str(BIN / "mock-cloud"), "image", "bake", "cloud", "--sign-key", str(baker.sign_key)]
    argv += ["--configdir", str(baker.user.config.path)]
    argv += ["--repo", f"{baker.cloud.repository_url}/2"]
    log = baker.user.place / "bake.log"
    with (
        log.open("wb") as stream,
        subprocess.Popen(argv, env=baker.user.environment, stderr=stream) as process,
    ):
        wait_for(lambda: list(baker.user.place.glob("state/mock-cloud/verdicts/*.verdict.json")))
        (machine,) = baker.cloud.nodes()
        yield machine
        process.wait()
    assert process.returncode == code, log.read_text()
    assert "waiting until the node has rebooted" in log.read_text()


def renewed_bash(baker: Baker) -> bool:
    """Whether the finished image has the newer one."""
    (row,) = (one for one in baker.images() if one["standing"] == "verified")
    report = Path(f"{row['manifest_file']}.report").read_text()
    return re.search(r"^package: bash-.*lab2", report, re.MULTILINE) is not None


@pytest.mark.slow
@pytest.mark.parametrize("either_cloud", ["ec2"], indirect=True)
def test_what_is_installed_is_renewed_and_runs_when_it_is_measured(baker: Baker) -> None:
    with bake_of_newer_packages(baker) as machine:
        wait_for(lambda: "cleanse" in orders_to(machine))
        orders = orders_to(machine)
    # Its timer and the rules of its network ended with the boot before.
    again = orders[orders.index("reboot") :]
    assert {"measured", "trusted", "lease", "metadata-closed"} <= set(again)
    assert renewed_bash(baker)
    said = (baker.user.place / "bake.log").read_text()
    assert "a node of the image is trusted by the new manifest" in said


@pytest.mark.slow
@pytest.mark.parametrize("either_cloud", ["ec2"], indirect=True)
def test_what_is_installed_stays_if_it_is_to(baker: Baker) -> None:
    baked = baker.bake("--no-upgrade", "--only-packages", release=2).expect()
    assert "rebooted" not in baked.stderr
    assert not renewed_bash(baker)


@pytest.mark.slow
@pytest.mark.parametrize("either_cloud", ["ec2"], indirect=True)
def test_what_a_packages_script_leaves_for_the_next_boot_is_found_by_another_agent(
    baker: Baker,
) -> None:
    """A program that cloud-init starts at each boot, and an agent on the disk that hides it.

    Put there from outside, as by a script of a package, which is as much root.
    """
    with bake_of_newer_packages(baker, 77) as machine:
        script = root_of(machine) / "var/lib/cloud/scripts/per-boot/evil"
        script.write_text("#!/bin/sh\nsleep 9876 &\n")
        script.chmod(0o755)
        toolkits = root_of(machine) / "var/lib/mock-cloud/toolkit"
        (module,) = toolkits.glob("*/agent/mock_cloud/agent/measure/processes.py")
        told, code = "if process is not None", module.read_text()
        assert told in code
        module.write_text(code.replace(told, f"{told} and 'sleep' not in str(process.exe)"))
        for compiled in module.parent.glob("__pycache__/processes.*"):
            compiled.unlink()
    said = (baker.user.place / "bake.log").read_text()
    refused = [line for line in said.splitlines() if "refused: " in line]
    assert any("process.unknown" in line and "/usr/bin/sleep" in line for line in refused), said
    assert not any("/toolkit/" in line for line in refused), said
    assert baker.cloud.listing().is_empty


def root_of(machine: Machine) -> Path:
    """The root directory of a machine that runs."""
    return Path(f"/proc/{machine.init_pid}/root")


def orders_to(machine: Machine) -> list[str]:
    """What its agents were told to do, in all its boots; nothing while it is rebooting."""
    with suppress(OSError):
        text = (root_of(machine) / "var/lib/mock-cloud/order.log").read_text()
        return [line.split()[2] for line in text.splitlines()]
    return []


def test_a_key_that_nobody_trusts_signs_nothing(baker: Baker) -> None:
    baker.write_remote(baker.cloud.image_id, baker.cloud.manifest, baker.lab.manifest_key)
    refused = baker.bake().expect(3)
    assert "not among [attest] manifest_keys" in refused.stderr
    assert len(baker.cloud.calls) == 0


@pytest.mark.slow
def test_an_image_without_manifest_needs_somebody_who_vouches(baker: Baker) -> None:
    public = baker.sign_key.with_suffix(".pub")
    baker.write_remote(baker.cloud.image_id, None, public)
    refused = baker.bake().expect(77)
    assert "its base image has no manifest" in refused.stderr
    assert "program: " in refused.stderr or re.search(r"and \d+ more", refused.stderr)
    assert baker.cloud.listing().is_empty
    (read,) = re.findall(r"read (\S+\.report)", refused.stderr)
    told = set(Path(read).read_text().splitlines())
    count = sum(not line.startswith("package: ") for line in told)
    assert (
        f"{count} files, processes and mounts of it are covered by no signature" in refused.stderr
    )
    accepted = baker.bake("--accept-unverified-base").expect()
    new = re.search(r"(\d+) of them are new since the report that was there", accepted.stderr)
    assert new and int(new[1]) < count / 4, accepted.stderr
    told = set(Path(read).read_text().splitlines())
    (image,) = baker.cloud.listing().images
    row = next(one for one in baker.images() if one["image"] == image)
    assert row["standing"] == "verified"
    # Nobody signed for the base, so whoever signs the image does.
    report = set(Path(f"{row['manifest_file']}.report").read_text().splitlines())
    programs = {line for line in told if line.startswith(("program: ", "mount: ", "kernel: "))}
    assert programs and programs <= report
    assert any(line.startswith(f"package: {PACKAGE}-") for line in report - told)


@contextmanager
def bake_that_waits(baker: Baker) -> Iterator[Machine]:
    """The machine of a bake of an image without manifest, 12 seconds before the end of its boot.

    The bake must end with 0.
    """
    assert isinstance(baker.cloud, Ec2Cloud)
    baker.cloud.early_sshd = True
    calls = {"url": "http://127.0.0.1:9/", "tries": 4, "post": ["hostname"]}
    stage: dict[str, object] = {
        "cloud_final_modules": ["phone-home", "final-message"],
        "phone_home": calls,
    }
    baker.cloud.faults.add(with_changed_user_data(baker.cloud, stage), on="RunInstances")
    public = baker.sign_key.with_suffix(".pub")
    baker.write_remote(baker.cloud.image_id, None, public)
    argv = [str(BIN / "mock-cloud"), "image", "bake", "cloud", "--accept-unverified-base"]
    argv += ["--configdir", str(baker.user.config.path), "--sign-key", str(baker.sign_key)]
    argv += ["--repo", f"{baker.cloud.repository_url}/1"]
    log = baker.user.place / "bake.log"
    with (
        log.open("wb") as stream,
        subprocess.Popen(argv, env=baker.user.environment, stderr=stream) as process,
    ):
        wait_for(lambda: b"waiting for the end of the node's boot" in log.read_bytes())
        (machine,) = baker.cloud.nodes()
        yield machine
        process.wait()
    assert process.returncode == 0, log.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("either_cloud", ["ec2"], indirect=True)
def test_sshd_is_started_anew_while_an_image_without_manifest_boots(baker: Baker) -> None:
    """As cloud-init's modules and systemd's do, after the first connection."""
    with bake_that_waits(baker) as machine:
        (listener,) = find_children(machine.init_pid, "sshd")
        os.kill(listener, signal.SIGTERM)


@pytest.mark.slow
@pytest.mark.parametrize("either_cloud", ["ec2"], indirect=True)
def test_services_that_end_under_the_measurement_of_a_base_are_waited_for(baker: Baker) -> None:
    """As those that D-Bus starts for half a minute: it ran as sshd read, and is not listed."""
    with bake_that_waits(baker) as machine:
        verdicts = baker.user.place / "state/mock-cloud/verdicts"
        number = 0
        while not list(verdicts.glob("*.verdict.json")):
            number += 1
            inside = ["nsenter", f"--target={machine.init_pid}", "--all", "--wd=/", "--"]
            subprocess.run([*inside, "/usr/bin/sleep", f"0.3{number:05}"], check=True, env={})
    (first, *_) = sorted(verdicts.glob("*.verdict.json"))
    assert '"login.witness"' in first.read_text()


def find_children(pid: int, name: str) -> list[int]:
    """Those of a process that run a program of this name."""
    children = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return [one for one in children if Path(f"/proc/{one}/comm").read_text().strip() == name]


@pytest.mark.slow
def test_what_a_killed_bake_leaves_is_removed_by_the_next(baker: Baker) -> None:
    argv = [str(Path(sys.executable).parent / "mock-cloud"), "image", "bake", "cloud"]
    argv += ["--configdir", str(baker.user.config.path), "--sign-key", str(baker.sign_key)]
    argv += ["--repo", f"{baker.cloud.repository_url}/1"]
    with subprocess.Popen(argv, env=baker.user.environment, stderr=subprocess.DEVNULL) as process:
        wait_for(lambda: baker.cloud.listing().images)
        process.send_signal(signal.SIGKILL)
    (image,) = baker.cloud.listing().images
    row = next(one for one in baker.images() if one["image"] == image)
    assert row["state"] == "unfinished"
    assert baker.image("share", image, "--public").expect(50).stderr
    failed = baker.bake("--repo", "http://127.0.0.1:1/")
    assert failed.code == 75 and f"the unfinished image {image} was removed" in failed.stderr
    assert baker.cloud.listing().is_empty
    assert snapshots(baker.cloud, TAG_BAKE) == 0


@pytest.mark.slow
def test_another_user_builds_on_what_was_shared(
    baker: Baker, tmp_path: Path, hello_srpm: Path
) -> None:
    baker.bake().expect()
    (image,) = baker.cloud.listing().images
    out = tmp_path / "for-all"
    shared = baker.image("share", image, "--public", "--export", out).expect()
    assert "is shared with everybody" in shared.stderr
    manifest, *keys = map(Path, shared.stdout.split())
    friend = make_baker(tmp_path / "friend", baker.cloud, baker.lab, baker.user.cache)
    friend.write_remote(image, manifest, *keys)
    built = friend.user.mock(hello_srpm, timeout_s=300).expect()
    assert "node trusted (tier 1)" in built.stderr
