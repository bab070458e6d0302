# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock-cloud setup` and `doctor` ask real APIs; they make nothing there."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.integration.conftest import MakeUser, User
from tests.lab.clouds import ec2_xml
from tests.lab.clouds.ec2 import ACCESS_KEY, REGION, SECRET_KEY, Ec2Cloud
from tests.lab.layout import Lab


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
