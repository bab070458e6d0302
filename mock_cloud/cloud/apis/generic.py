# SPDX-License-Identifier: GPL-2.0-or-later
"""Any other cloud that libcloud has a driver for, by the methods that all drivers have.

A node is known by its name, which holds the tags: not every API keeps tags, and those that do
get them in a second request. There is no token and no question for one node: each look lists.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from functools import cached_property, partial
from itertools import product
from typing import Any, Final

from mock_cloud.cloud.apis.adapter import (
    TAG_LEASE,
    Instance,
    InstanceState,
    Launch,
    Leftover,
    Offer,
)
from mock_cloud.cloud.apis.calls import Calls, Classify, Diagnosis, FailureKind, refuse_credentials
from mock_cloud.cloud.apis.generic_driver import Driver, find_driver_class, make_driver
from mock_cloud.cloud.apis.tags import make_name, parse_name
from mock_cloud.cloud.apis.texts import NoCapacity, QuotaReached
from mock_cloud.cloud.provider import Finding, look
from mock_cloud.errors import CloudError, ConfigError, MockCloudError
from mock_cloud.settings import LibcloudSettings, Reach, Remote

_NAME: Final = "libcloud"

_STATES: Final = {
    "running": InstanceState.RUNNING,
    "normal": InstanceState.RUNNING,
    "updating": InstanceState.RUNNING,
    "migrating": InstanceState.RUNNING,
    "stopping": InstanceState.STOPPED,
    "stopped": InstanceState.STOPPED,
    "suspended": InstanceState.STOPPED,
    "paused": InstanceState.STOPPED,
    "error": InstanceState.FAILED,
    "terminated": InstanceState.ENDED,
}
"""libcloud's NodeState; those left out are on their way."""
_USABLE: Final = (InstanceState.PENDING, InstanceState.RUNNING)


class _NotThere(CloudError):
    """The API does not know what it was asked about."""


class LibcloudApi:
    """See `CloudApi`. `owner` is who asks: see `names`."""

    has_tokens = False

    def __init__(self, settings: LibcloudSettings, remote: Remote, owner: str) -> None:
        self._settings = settings
        self._remote = remote
        self._owner = owner
        self._asked: set[str] = set()
        self._known: dict[str, list[Any]] = {}
        service = f"libcloud's {settings.driver}"
        self.calls = Calls(service, _judge_for(service, f"{remote.source} [libcloud.arguments]"))

    def offers(self, arch: str) -> Sequence[Offer]:
        """See `CloudApi.offers`."""
        node = self._remote.nodes[arch]
        places = self._settings.locations or ("",)
        return [Offer(*choice) for choice in product(node.images, node.sizes, places)]

    def price(self, offer: Offer) -> float | None:
        """See `CloudApi.price`: what the size says; most drivers mean unknown by 0."""
        price = getattr(self._pick("sizes", offer.size), "price", None)
        return float(price) if isinstance(price, (int, float)) and price > 0 else None

    def examine(self, arch: str) -> Sequence[Finding]:
        """See `CloudApi.examine`: what the driver lists; it tells nothing of a quota."""
        node = self._remote.nodes[arch]
        found = [look("credentials", lambda: f"accepted; {len(self._list())} nodes of ours")]
        if not found[0].ok:
            return found
        for image in node.images:
            found.append(look(f"image {image}", partial(self._image_name, image)))
        named = [("sizes", size) for size in node.sizes]
        named += [("locations", place) for place in self._settings.locations]
        for what, wanted in named:
            found.append(look(f"{what[:-1]} {wanted}", partial(self._name_of, what, wanted)))
        return found

    def launch(self, launch: Launch, offer: Offer) -> Instance:
        """See `CloudApi.launch`."""
        name = make_name(launch)
        if launch.token in self._asked:
            made = self._adopt(launch)
            if made is not None:
                return made
        arguments = self._driver.arguments(launch)
        if offer.zone:
            arguments["location"] = self._pick("locations", offer.zone)
        size, image = self._pick("sizes", offer.size), self._image(offer.image)
        self._asked.add(launch.token)
        return self.calls.change(
            "create node",
            lambda: self._create(name, {"size": size, "image": image, **arguments}),
            repeatable=False,
            is_single=False,
        )

    def find_made(self, launch: Launch) -> Sequence[Instance]:
        """See `CloudApi.find_made`."""
        name, driver = make_name(launch), self._driver.library
        named = self.calls.read(
            "list nodes",
            lambda: [self._parse(node, name) for node in driver.list_nodes() if node.name == name],
        )
        made = [item for item in named if item.state in _USABLE]
        return sorted(made, key=lambda item: (item.created_unix, item.handle))

    def complete(self, instance: Instance) -> bool:
        """See `CloudApi.complete`: nothing that all drivers could."""
        return False

    def find(self, handle: str) -> Instance | None:
        """See `CloudApi.find`."""
        found = [node for node in self._list() if node.handle == handle]
        return found[0] if found else None

    def list_tagged(self, lease_id: str = "") -> Sequence[Instance]:
        """See `CloudApi.list_tagged`."""
        return [
            item
            for item in self._list()
            if item.state is not InstanceState.ENDED and lease_id in ("", item.tags[TAG_LEASE])
        ]

    def list_leftovers(self, lease_id: str = "") -> Sequence[Leftover]:
        """See `CloudApi.list_leftovers`: nothing but nodes is made."""
        return []

    def terminate(self, handle: str) -> None:
        """See `CloudApi.terminate`."""
        with suppress(_NotThere):
            self.calls.end(f"destroy node {handle}", lambda: self._destroy(handle))

    def remove(self, leftover: Leftover) -> None:
        """See `CloudApi.remove`."""

    def console(self, handle: str) -> str:
        """See `CloudApi.console`: libcloud has no method of that name for all drivers."""
        return ""

    def explain_silence(self, handle: str) -> str:
        """See `CloudApi.explain_silence`."""
        return ""

    @cached_property
    def _driver(self) -> Driver:
        settings, source = self._settings, self._remote.source
        return self.calls.read("log in", lambda: make_driver(settings, os.environ, source))

    def _list(self) -> list[Instance]:
        """All nodes that mock-cloud made, of all owners."""
        driver = self._driver.library
        found = self.calls.read(
            "list nodes", lambda: [self._parse(node, "") for node in driver.list_nodes()]
        )
        return [instance for instance in found if instance.tags]

    def _create(self, name: str, arguments: Mapping[str, object]) -> Instance:
        driver = self._driver.library
        connection = getattr(driver, "connection", None)
        patience = nullcontext() if connection is None else self.calls.creating(connection)
        with patience:
            return self._parse(driver.create_node(name=name, **arguments), name)

    def _adopt(self, launch: Launch) -> Instance | None:
        """What an earlier call made: the oldest of that name; the others are destroyed."""
        made = self.find_made(launch)
        for duplicate in made[1:]:
            self.terminate(duplicate.handle)
        return made[0] if made else None

    def _destroy(self, handle: str) -> None:
        """One look and one request, so that both are repeated together."""
        for node in self._driver.library.list_nodes():
            if str(node.id) != handle or not parse_name(node.name, self._owner):
                continue
            if _STATES.get(str(node.state)) is InstanceState.ENDED:
                return
            if not self._driver.library.destroy_node(node):
                raise CloudError(f"{self.calls.service} would not destroy node {handle}")

    def _parse(self, node: Any, name: str) -> Instance:
        """A node as an instance; `name` if it is known, where an answer may still lack it."""
        created = node.created_at
        return Instance(
            str(node.id),
            _STATES.get(str(node.state), InstanceState.PENDING),
            tags=parse_name(name or node.name, self._owner),
            addresses=_addresses([*node.public_ips], [*node.private_ips]),
            reason=str(node.extra.get("status") or node.state),
            created_unix=created.timestamp() if created is not None else 0.0,
        )

    def _image(self, wanted: str) -> Any:
        """The image to order, which the API need not tell of: not all tell of all they take."""
        from libcloud.compute.base import NodeImage

        try:
            return self._find_image(wanted)
        except _NotThere:
            return NodeImage(wanted, wanted, self._driver.library)

    def _find_image(self, wanted: str) -> Any:
        """The image of that id: alone where the driver can, as lists are long. NotThere."""
        driver = self._driver.library
        try:
            return self.calls.read(f"show image {wanted}", lambda: driver.get_image(wanted))
        except NotImplementedError:
            return self._pick("images", wanted)

    def _image_name(self, wanted: str) -> str:
        return str(self._find_image(wanted).name)

    def _name_of(self, what: str, wanted: str) -> str:
        return str(self._pick(what, wanted).name)

    def _pick(self, what: str, wanted: str) -> Any:
        """The size, image or location of that id; listed once. ConfigError with near ids."""
        if what not in self._known:
            method: Callable[[], Iterable[Any]] = getattr(self._driver.library, f"list_{what}")
            self._known[what] = self.calls.read(f"list {what}", lambda: list(method()))
        ids = {str(item.id): item for item in self._known[what]}
        if wanted in ids:
            return ids[wanted]
        by_name = [key for key, item in ids.items() if item.name == wanted]
        near = by_name or difflib.get_close_matches(wanted, ids, n=3)
        raise ConfigError(
            f"{self._remote.source}: {self.calls.service} lists no {what[:-1]} of id {wanted!r}",
            hint=f"near ids: {', '.join(near)}" if near else f"it lists {len(ids)} {what}",
        )


def make_libcloud_api(remote: Remote, owner: str) -> LibcloudApi:
    """The API that a remote with a table [libcloud] means. ConfigError about its driver's name."""
    settings = remote.cloud
    if not isinstance(settings, LibcloudSettings):
        raise ConfigError(f"remote {remote.name} has no table [libcloud]")
    find_driver_class(settings.driver, remote.source)
    return LibcloudApi(settings, remote, owner)


def _addresses(public: Sequence[object], private: Sequence[object]) -> dict[Reach, str]:
    found: dict[Reach, str] = {}
    for reach, texts in ((Reach.PUBLIC, public), (Reach.PRIVATE, private)):
        for text in texts:
            try:
                address = ipaddress.ip_address(str(text))
            except ValueError:
                continue  # some drivers give names
            if not address.is_link_local:
                found.setdefault(Reach.IPV6 if address.version == 6 else reach, str(address))
    return found


def _judge_for(service: str, source: str) -> Classify:
    """What can be said of failures of APIs that have no words in common."""

    def classify(diagnosis: Diagnosis) -> FailureKind | MockCloudError:
        lowered = diagnosis.text.lower()
        if diagnosis.is_credentials:
            return refuse_credentials(diagnosis, service, source)
        if diagnosis.trouble is FailureKind.REFUSED and "quota" in lowered:
            # In whose words nobody knows: a smaller size may do.
            return QuotaReached(f"{service}: {diagnosis.text}", is_of_size=True)
        if diagnosis.status == 404:
            return _NotThere(f"{service}: {diagnosis.text}")
        if any(word in lowered for word in ("capacity", "no valid host", "out of stock")):
            return NoCapacity(f"{service}: {diagnosis.text}")
        return diagnosis.trouble

    return classify
