# SPDX-License-Identifier: GPL-2.0-or-later
"""Images as Glance keeps them: snapshots are private, and private images tell no members."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mock_cloud.cloud.apis.openstack_images import OpenStackImages
from mock_cloud.cloud.images import TAG_BAKE, TAG_MANIFEST
from mock_cloud.errors import ConfigError
from mock_cloud.settings import NodeSettings, OpenStackSettings
from tests.component.openstack_answers import OTHER, PROJECT, Answers, make_api, run_answers


@pytest.fixture
def answers() -> Iterator[tuple[Answers, OpenStackImages]]:
    with run_answers() as (answers, url):
        api = make_api(url, OpenStackSettings(), NodeSettings(("i",), ("s",)))
        yield answers, api.images()


def add(answers: Answers, visibility: str = "private") -> str:
    return answers.images.add("baked", PROJECT, visibility=visibility, **{TAG_BAKE: "b1"})


@pytest.mark.parametrize("visibility", ["private", "community", "public", "shared"])
def test_a_bakes_image_is_found_and_listed(
    answers: tuple[Answers, OpenStackImages], visibility: str
) -> None:
    handle = add(answers[0], visibility)
    store = answers[1]
    found = store.find(handle)
    assert found is not None
    assert found.is_public == (visibility in ("community", "public"))
    assert [one.handle for one in store.list()] == [handle]
    store.tag(handle, {TAG_MANIFEST: "0" * 64}, remove=[TAG_BAKE])
    assert store.list()[0].tags == {TAG_MANIFEST: "0" * 64}


def test_it_is_shared_with_projects_and_then_with_everybody(
    answers: tuple[Answers, OpenStackImages],
) -> None:
    handle, store = add(answers[0]), answers[1]
    for _ in range(2):
        store.share(handle, [OTHER], public=False)
    found = store.find(handle)
    assert found is not None
    assert (found.sharing, found.is_public) == ((OTHER,), False)
    for _ in range(2):
        store.share(handle, [], public=True)
    store.share(handle, [OTHER], public=False)
    found = store.find(handle)
    assert found is not None
    assert (found.sharing, found.is_public) == ((), True)
    assert len(store.list()) == 1


@pytest.mark.parametrize("account", ["other", "no such", "", "123456789012x"])
def test_what_is_no_project_gets_nothing(
    answers: tuple[Answers, OpenStackImages], account: str
) -> None:
    """Glance takes any word for a member."""
    handle, store = add(answers[0]), answers[1]
    with pytest.raises(ConfigError, match="is not the id of a project"):
        store.share(handle, [OTHER, account], public=False)
    assert answers[0].images.images[handle]["visibility"] == "private"
