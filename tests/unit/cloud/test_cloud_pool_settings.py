# SPDX-License-Identifier: GPL-2.0-or-later
from dataclasses import replace
from pathlib import Path

import pytest

from mock_cloud.cloud.pool import settings_digest
from mock_cloud.cloud.providers import find_provider
from mock_cloud.errors import ConfigError
from mock_cloud.settings import (
    AttestSettings,
    BuildSettings,
    Ec2Settings,
    LeaseLimits,
    LocalSettings,
    Market,
    Remote,
)


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    (tmp_path / "image").mkdir()
    (tmp_path / "manifest").write_text("one")
    return Remote(
        name="lab",
        provider="local",
        arches=("x86_64",),
        attest=AttestSettings(tmp_path / "manifest", (), ()),
        local=LocalSettings(tmp_path / "image"),
    )


def test_what_does_not_shape_a_node_does_not_count(remote: Remote) -> None:
    other = replace(
        remote, lease=LeaseLimits(max_nodes=9), build=BuildSettings(silence_timeout_s=1)
    )
    assert settings_digest(other, "x86_64") == settings_digest(remote, "x86_64")


def test_how_a_node_is_bought_does_not_count(remote: Remote) -> None:
    cloud = Ec2Settings("here", market=Market.SPOT_FIRST)
    spot = replace(remote, local=None, cloud=cloud)
    bought = replace(spot, cloud=replace(cloud, market=Market.ON_DEMAND))
    moved = replace(spot, cloud=replace(cloud, zones=("here-a",)))
    assert settings_digest(spot, "x86_64") == settings_digest(bought, "x86_64")
    assert settings_digest(spot, "x86_64") != settings_digest(moved, "x86_64")


def test_what_shapes_a_node_counts(remote: Remote) -> None:
    assert remote.local is not None
    others = [
        replace(remote, local=replace(remote.local, disk_mib=64)),
        replace(remote, attest=replace(remote.attest, package_keys=(Path("/k"),))),
        replace(remote, local=None),
    ]
    digests = {settings_digest(item, "x86_64") for item in (remote, *others)}
    digests.add(settings_digest(remote, "aarch64"))
    assert len(digests) == len(others) + 2


def test_a_remade_image_or_manifest_counts(remote: Remote, tmp_path: Path) -> None:
    before = settings_digest(remote, "x86_64")
    (tmp_path / "manifest").write_text("other")
    second = settings_digest(remote, "x86_64")
    (tmp_path / "image").rename(tmp_path / "old")
    (tmp_path / "image").mkdir()
    assert len({before, second, settings_digest(remote, "x86_64")}) == 3


def test_the_same_manifest_in_another_file_is_the_same_node(remote: Remote, tmp_path: Path) -> None:
    """As in a container that is started anew: other inode, device and times."""
    before = settings_digest(remote, "x86_64")
    (tmp_path / "manifest").rename(tmp_path / "old")
    (tmp_path / "manifest").write_text("one")
    assert settings_digest(remote, "x86_64") == before


def test_an_unknown_provider_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'cloudy'") as caught:
        find_provider("cloudy", tmp_path, None)
    assert str(caught.value.hint).startswith("the providers are: local, ")
