# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock-cloud setup` and `doctor` ask real APIs; they make nothing there."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.integration.conftest import MakeUser, User
from tests.integration.ec2_remote import Account
from tests.lab.clouds import ec2_xml, faults
from tests.lab.clouds.ec2 import ACCESS_KEY, REGION, SECRET_KEY, Ec2Cloud
from tests.lab.layout import Lab

_IMAGE = """<item><imageId>{}</imageId><name>{}</name><imageOwnerId>125523088429</imageOwnerId>
<creationDate>{}T00:00:00.000Z</creationDate><architecture>{}</architecture></item>"""
PUBLISHED = (
    '<DescribeImagesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><imagesSet>'
    + _IMAGE.format("ami-a", "Fedora-Cloud-Base-AmazonEC2.x86_64-43-1.2", "2025-10-01", "x86_64")
    + _IMAGE.format("ami-b", "Fedora-Cloud-Base-AmazonEC2.x86_64-43-1.6", "2025-10-28", "x86_64")
    + _IMAGE.format("ami-c", "CentOS Stream 9 x86_64 20251020", "2025-10-20", "x86_64")
    + _IMAGE.format("ami-d", "CentOS Stream 9 x86_64 20251013", "2025-10-13", "x86_64")
    + _IMAGE.format("ami-e", "CentOS Stream 9 aarch64 20251020", "2025-10-20", "arm64")
    + "</imagesSet></DescribeImagesResponse>"
)


@pytest.fixture
def keys(lab: Lab) -> list[str]:
    return ["--manifest-keys", str(lab.manifest_key), "--package-keys", str(lab.package_key)]


@pytest.fixture
def environment() -> dict[str, str]:
    return {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}


def directory(user: User) -> Path:
    return user.config.path / "remotes.d"


def setup(user: User, cloud: Ec2Cloud, keys: list[str], *more: str, env: dict[str, str]) -> str:
    words = ["setup", "cloud", "--force", "--provider", "ec2", "--region", REGION]
    words += ["--endpoint", cloud.url, *keys, *more, "--directory", str(directory(user))]
    done = user.cloud(*words, env=env)
    return f"{done.code}\n{done.stdout}{done.stderr}"


def test_a_remote_is_written_and_checked(
    make_user: MakeUser, ec2: Ec2Cloud, keys: list[str], environment: dict[str, str]
) -> None:
    user = make_user("setup")
    size = ["--image", ec2.image_id, "--size", "t3.small", "--arch", "x86_64"]
    told = setup(user, ec2, keys, *size, "--price-per-hour", "0.02", env=environment)
    for line in (
        "credentials: from",
        f"image {ec2.image_id}: ",
        "sizes: t3.small in ",
        "instances: ",
    ):
        assert f"ok       {line}" in told, told
    assert "price for x86_64: at most 0.02 USD an hour" in told
    assert "MISSING  known-good set for x86_64" in told  # its image is to be baked
    assert told.startswith("3\n")
    assert (directory(user) / "cloud.toml").stat().st_mode & 0o777 == 0o600
    assert SECRET_KEY not in told
    again = user.cloud(
        "doctor", "cloud", "--json", "--configdir", user.config.path, env=environment
    )
    assert '"price for x86_64"' in again.stdout


def test_what_the_cloud_does_not_have_is_named(
    make_user: MakeUser, ec2: Ec2Cloud, keys: list[str], environment: dict[str, str]
) -> None:
    user = make_user("setup-wrong")
    wrong = ["--image", "ami-00000000", "--size", "t3.gigantic", "--zones", "nowhere-1a"]
    told = setup(user, ec2, keys, *wrong, env=environment)
    assert f"MISSING  credentials: region {REGION} has no zone nowhere-1a" in told
    wrong = [*wrong[:4], "--security-groups", "sg-00000000"]
    told = setup(user, ec2, keys, *wrong, env=environment)
    assert "MISSING  image ami-00000000" in told
    assert "MISSING  sizes: " in told and "no t3.gigantic is sold there" in told
    assert "MISSING  security groups" in told


def test_wrong_credentials_are_told_within_two_seconds(
    make_user: MakeUser, ec2: Ec2Cloud, keys: list[str]
) -> None:
    user = make_user("setup-creds")
    ec2.faults.add(ec2_xml.failing(401, "AuthFailure"), on="DescribeAvailabilityZones")
    env = {"AWS_ACCESS_KEY_ID": "AKIAWRONG", "AWS_SECRET_ACCESS_KEY": "hush"}
    started = time.monotonic()
    told = setup(user, ec2, keys, "--image", "ami-1", "--size", "t3.small", env=env)
    print(f"{time.monotonic() - started:.1f} s")
    assert "MISSING  credentials: " in told and "AWS_ACCESS_KEY_ID" in told
    assert "hush" not in told
    none = {"AWS_CONFIG_FILE": str(Path("/nowhere")), "AWS_SHARED_CREDENTIALS_FILE": "/nowhere"}
    told = setup(user, ec2, keys, "--image", "ami-1", "--size", "t3.small", env=none)
    assert "MISSING  credentials: " in told


def test_what_the_account_and_distributions_have_is_listed(ec2: Ec2Cloud) -> None:
    """Amazon's model takes each of the requests: `tests.lab.clouds.aws`."""
    choices = Account(ec2).api().choices()

    def listed(key: str, arch: str = "x86_64", like: str = "") -> dict[str, str]:
        return {one.value: one.text for one in choices.find(key, arch, like)}

    assert ec2.image_id in listed("images")
    name = listed("images")[ec2.image_id].partition(",")[0]
    assert ec2.image_id in listed("images", like=name[1:-1])
    assert not listed("images", like="no such image")
    published = {"Owner.1": "125523088429"}
    ec2.faults.add(faults.answer(200, PUBLISHED, "text/xml"), on="DescribeImages", when=published)
    found = listed("images")
    del found[ec2.image_id]
    assert list(found.items()) == [
        ("ami-b", "Fedora-Cloud-Base-AmazonEC2.x86_64-43-1.6, by Fedora or CentOS, 2025-10-28"),
        ("ami-c", "CentOS Stream 9 x86_64 20251020, by Fedora or CentOS, 2025-10-20"),
    ]
    ec2.faults.add(faults.answer(200, PUBLISHED, "text/xml"), on="DescribeImages", when=published)
    assert {"ami-a", "ami-b", "ami-c"} <= listed("images", like="x86_64").keys()
    assert ec2.image_id not in listed("images", like=f"125523088429/{name}")
    sizes = listed("sizes")
    assert sizes and all(" CPUs, " in text for text in sizes.values())
    assert not sizes.keys() & listed("sizes", "aarch64").keys()
    assert any(text.startswith("default in vpc-") for text in listed("security_groups").values())
    assert all(REGION in text for text in listed("subnets").values())
    assert f"{REGION}a" in listed("zones")
    assert not listed("market")
    assert choices.is_search("images", "fedora") and not choices.is_search("images", "ami-1")
    assert {call.status for call in ec2.calls} == {200}
