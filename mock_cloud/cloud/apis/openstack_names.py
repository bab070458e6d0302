# SPDX-License-Identifier: GPL-2.0-or-later
"""What a remote's file names by name, found by its id: images, flavors, networks.

``name:PATTERN`` is an image or flavor by its name, with ``*`` and ``?`` as in a shell. Anything
else is an id, for which nothing is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, Final
from uuid import UUID

from mock_cloud.cloud.apis.calls import Calls
from mock_cloud.cloud.apis.openstack_failures import read_all
from mock_cloud.errors import ConfigError

BY_NAME: Final = "name:"
_PAGES_MAX: Final = 50


class OpenStackNames:
    """Looks each name up once. `service` connects to a service by its type."""

    def __init__(self, calls: Calls, service: Callable[[str], Any]) -> None:
        self._calls = calls
        self._service = service
        self._known: dict[tuple[str, str], str] = {}

    def image(self, wanted: str) -> str:
        """The id of an image: of several with such a name the newest. ConfigError.

        Of those that Glance lists: this project's, the cloud's own, and what another project
        shared and this one accepted. Anybody's community images are not among them.
        """

        def choose(pattern: str) -> str:
            images = self.all_images()
            found = [one for one in images if fnmatchcase(str(one.get("name")), pattern)]
            if not found:
                raise self._none("active image", pattern, images)
            return str(max(found, key=lambda one: str(one.get("created_at")))["id"])

        return self._find("image", wanted, choose)

    def flavor(self, wanted: str) -> str:
        """The id of a flavor. ConfigError if several have such a name."""

        def choose(pattern: str) -> str:
            flavors = self._calls.read(
                "list flavors", lambda: read_all(self._service("compute"), "/flavors", "flavors")
            )
            found = [one for one in flavors if fnmatchcase(str(one.get("name")), pattern)]
            if not found:
                raise self._none("flavor", pattern, flavors)
            if len(found) > 1:
                names = ", ".join(str(one.get("name")) for one in found)
                raise ConfigError(
                    f"{self._calls.service}: several flavors are called {pattern!r}: {names}",
                    hint="name one of them; sizes is a list, best first",
                )
            return str(found[0]["id"])

        return self._find("flavor", wanted, choose)

    def networks(self, wanted: Sequence[str], *, is_checked: bool = False) -> list[str]:
        """The ids of networks, by id or name. ConfigError.

        Where all are ids nothing is asked, unless `is_checked`.
        """
        if not is_checked and all(map(is_uuid, wanted)):
            return list(wanted)
        known = self.all_networks()
        ids = []
        for name in wanted:
            found = [str(net["id"]) for net in known if name in (net.get("id"), net.get("name"))]
            if len(found) != 1:
                near = get_close_matches(name, [str(net.get("name")) for net in known])
                raise ConfigError(
                    f"{self._calls.service}: {len(found) or 'no'} networks are called {name!r}",
                    hint=f"near names: {', '.join(near)}" if near else "name it by its id",
                )
            ids += found
        return ids

    def all_networks(self) -> list[dict[str, Any]]:
        """What the network API lists."""

        def ask() -> list[dict[str, Any]]:
            return read_all(self._service("network"), "/v2.0/networks", "networks")

        return self._calls.read("list networks", ask)

    def _find(self, kind: str, wanted: str, choose: Callable[[str], str]) -> str:
        if not wanted.startswith(BY_NAME):
            return wanted
        if (kind, wanted) not in self._known:
            self._known[kind, wanted] = choose(wanted.removeprefix(BY_NAME))
        return self._known[kind, wanted]

    def all_images(self) -> list[Mapping[str, Any]]:
        """What Glance lists of images that can be used."""
        found: list[Mapping[str, Any]] = []
        path = "/v2/images?status=active&limit=500"
        for _ in range(_PAGES_MAX):
            page = self._calls.read("list images", partial(self._page, path))
            found += page["images"]
            path = str(page.get("next") or "")
            if not path:
                break
        return found

    def _page(self, path: str) -> Mapping[str, Any]:
        page: Any = self._service("image").request(path).object
        images = page.get("images") if isinstance(page, dict) else None
        if not isinstance(images, list) or not all(isinstance(one, dict) for one in images):
            raise ValueError("the answer has no list 'images'")
        return dict(page)

    def _none(self, what: str, pattern: str, known: Sequence[Mapping[str, Any]]) -> ConfigError:
        names = sorted({str(one.get("name")) for one in known})
        near = get_close_matches(pattern, names, n=3) or names[:5]
        return ConfigError(
            f"{self._calls.service}: no {what} is called {pattern!r}",
            hint=f"there are: {', '.join(near)}" if near else "it lists none at all",
        )


def is_uuid(text: str) -> bool:
    """Whether a text is a UUID, as OpenStack's own ids are."""
    try:
        UUID(text)
    except ValueError:
        return False
    return True
