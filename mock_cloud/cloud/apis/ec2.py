# SPDX-License-Identifier: GPL-2.0-or-later
"""EC2, and APIs that speak its language, as an adapter. Makes instances and nothing else.

No key pair, security group or address is ever made: what does not exist cannot be left over.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from typing import Final

from mock_cloud.cloud.apis.adapter import (
    TAG_LEASE,
    Instance,
    InstanceState,
    Launch,
    Leftover,
    Offer,
)
from mock_cloud.cloud.apis.calls import CALL_TIMEOUT_S, Breaker, Calls
from mock_cloud.cloud.apis.ec2_answers import (
    Described,
    ImageFacts,
    parse_console,
    parse_image,
    parse_instances,
)
from mock_cloud.cloud.apis.ec2_choices import Ec2Choices
from mock_cloud.cloud.apis.ec2_connection import Ec2Connection
from mock_cloud.cloud.apis.ec2_examine import examine_ec2
from mock_cloud.cloud.apis.ec2_groups import explain_groups
from mock_cloud.cloud.apis.ec2_images import Ec2Images
from mock_cloud.cloud.apis.ec2_leftovers import list_leftovers, remove_leftover
from mock_cloud.cloud.apis.ec2_requests import filters, launch_parameters
from mock_cloud.cloud.apis.texts import CloudIsOut, NotThere, OutcomeUnknown
from mock_cloud.cloud.images import TAG_OWNER
from mock_cloud.cloud.provider import Finding
from mock_cloud.errors import CloudError, ConfigError, MockCloudError
from mock_cloud.model import Secret
from mock_cloud.settings import Ec2Settings, Market, Remote

_ARCHES: Final = {"aarch64": "arm64"}  # Amazon's words where they are not the kernel's
_SHOWN_FOR_S: Final = 3600.0
"""EC2 shows an instance for about an hour after its end: of a younger one it has not heard yet."""
_UNHEARD_S: Final = 30.0
_LOOK_S: Final = 2.0
_NOT_ENDED: Final = ("pending", "running", "stopping", "stopped")


class Ec2Api:
    """See `CloudApi`. One region, as one remote's file describes it; the rest as in `Calls`."""

    has_tokens = True

    def __init__(
        self,
        settings: Ec2Settings,
        remote: Remote,
        *,
        breaker: Breaker | None = None,
        call_timeout_s: float = CALL_TIMEOUT_S,
    ) -> None:
        self._settings = settings
        self._remote = remote
        self._connection = Ec2Connection(settings, remote.source, breaker, call_timeout_s)
        self._images: dict[str, ImageFacts] = {}
        self._asked: set[str] = set()
        self._made_s: dict[str, float] = {}

    @property
    def calls(self) -> Calls:
        return self._connection.calls

    def offers(self, arch: str) -> Sequence[Offer]:
        """See `CloudApi`: a better size in any zone before a lesser one, spot before the rest."""
        node = self._remote.nodes.get(arch)
        if node is None:
            raise ConfigError(f"{self._remote.source}: there is no table [node.{arch}]")
        spot = {
            Market.SPOT: (True,),
            Market.SPOT_FIRST: (True, False),
            Market.ON_DEMAND: (False,),
        }[self._settings.market]
        ways = itertools.product(spot, node.sizes, node.images, self._places())
        return [
            Offer(image, size, zone, subnet, is_spot)
            for is_spot, size, image, (zone, subnet) in ways
        ]

    def price(self, offer: Offer) -> float | None:
        """See `CloudApi`: Linux's list price in the table that came with libcloud, in USD.

        The table is as old as that libcloud. A spot price is at most the list price.
        """
        return self._price_of(offer.size)

    def _price_of(self, size: str) -> float | None:
        if self._settings.endpoint and "amazonaws.com" not in self._settings.endpoint:
            return None
        from libcloud.pricing import get_size_price

        price: float | None = get_size_price(
            "compute", "ec2_linux", size, region=self._settings.region
        )
        return price or None  # where it has no price the table often says 0

    def examine(self, arch: str) -> Sequence[Finding]:
        """See `CloudApi`."""
        node = self._remote.nodes[arch]

        def check_image(image: str) -> str:
            return f"{self._image(image).architecture or 'of no known architecture'}"

        def order() -> Mapping[str, str]:
            tags = {TAG_LEASE: "none", TAG_OWNER: "none"}  # rights go by that there is one
            launch = Launch("mock-cloud-doctor", "", Secret(b""), tags)
            offer = self.offers(arch)[0]
            asked = launch_parameters(launch, offer, self._image(offer.image), self._settings)
            return {name: value for name, value in asked.items() if value}

        return examine_ec2(self._connection, self._settings, node, check_image, order)

    def launch(self, launch: Launch, offer: Offer) -> Instance:
        """See `CloudApi`. EC2 itself makes one instance of a token; what it repeats is checked."""
        made = self._launch(launch, offer)
        self._made_s[made.handle] = time.monotonic()
        return made

    def _launch(self, launch: Launch, offer: Offer) -> Instance:
        parameters = launch_parameters(launch, offer, self._image(offer.image), self._settings)
        if launch.token in self._asked:
            adopted = self._adopt(launch)
            if adopted is not None:
                return adopted
        self._asked.add(launch.token)
        before = self.calls.count
        try:
            answer = self._connection.change("RunInstances", parameters, repeatable=True)
        except NotThere as error:
            raise self._misnamed(error) from error
        made = [described.instance for described in parse_instances(answer)]
        if len(made) != 1 or self.calls.count > before + 1:
            try:
                adopted = self._adopt(launch)
            except (ConfigError, CloudIsOut) as error:  # of the listing: the order was taken
                raise OutcomeUnknown(error.message, hint=error.hint) from error
            if adopted is not None:
                return adopted
        if not made:
            raise CloudError(f"{self.calls.service} says that it made an instance, and shows none")
        return made[0]

    def find_made(self, launch: Launch) -> Sequence[Instance]:
        """See `CloudApi`."""
        found = [
            item.instance
            for item in self._list(launch.tags[TAG_LEASE])
            if item.token in (launch.token, "")
        ]
        return sorted(found, key=lambda instance: (instance.created_unix, instance.handle))

    def complete(self, instance: Instance) -> bool:
        """See `CloudApi`: EC2 gives an instance all it gets when it makes it."""
        return False

    def find(self, handle: str) -> Instance | None:
        """See `CloudApi`."""
        described = self._describe(handle)
        return None if described is None else described.instance

    def list_tagged(self, lease_id: str = "") -> Sequence[Instance]:
        """See `CloudApi`."""
        return [item.instance for item in self._list(lease_id)]

    def list_leftovers(self, lease_id: str = "") -> Sequence[Leftover]:
        """See `CloudApi`."""
        return list_leftovers(self._connection, lease_id, self.list_tagged)

    def terminate(self, handle: str) -> None:
        """See `CloudApi`. What EC2 does not know is gone, unless this run has just made it."""
        began = time.monotonic()
        while True:
            try:
                self._connection.end("TerminateInstances", {"InstanceId.1": handle})
            except NotThere as error:
                now = time.monotonic()
                if now - self._made_s.get(handle, -_SHOWN_FOR_S) >= _SHOWN_FOR_S:
                    return
                if now - began >= _UNHEARD_S:
                    raise CloudError(f"{error.message}, and it was made in this run") from error
            else:
                return
            time.sleep(_LOOK_S)

    def remove(self, leftover: Leftover) -> None:
        """See `CloudApi`."""
        remove_leftover(self._connection, leftover)

    def console(self, handle: str) -> str:
        """See `CloudApi`: what the hypervisor has now, where that can be had (Nitro)."""
        try:
            answer = self._connection.read(
                "GetConsoleOutput", {"InstanceId": handle, "Latest": "true"}
            )
        except MockCloudError:
            # "Latest" is not supported for older types; the other is minutes old.
            answer = self._connection.read("GetConsoleOutput", {"InstanceId": handle})
        return parse_console(answer)

    def explain_silence(self, handle: str) -> str:
        """See `CloudApi`: what the instance's security groups say of port 22."""
        try:
            described = self._describe(handle)
            if described is None or not described.groups:
                return ""
            address = described.instance.addresses.get(self._settings.reach, "")
            return explain_groups(self._connection, described.groups, address)
        except MockCloudError:
            return ""

    def _places(self) -> list[tuple[str, str]]:
        """Pairs of zone and subnet, best first; empty strings leave it to the API."""
        zones, subnets = self._settings.zones, self._settings.subnets
        if len(subnets) <= 1:
            subnet = subnets[0] if subnets else ""
            return [(zone, subnet) for zone in zones or ("",)]
        if not zones:
            return [("", subnet) for subnet in subnets]
        if len(zones) != len(subnets):
            raise ConfigError(
                f"{self._remote.source}: [ec2] has {len(zones)} zones and {len(subnets)} subnets",
                hint="name one subnet for each zone, in the same order, or one for all",
            )
        return list(zip(zones, subnets, strict=True))

    def _image(self, image: str) -> ImageFacts:
        """What is known of an image. ConfigError if there is none, or of another architecture."""
        if image not in self._images:
            try:
                answer = self._connection.read("DescribeImages", {"ImageId.1": image})
            except NotThere as error:
                raise self._misnamed(error) from error
            facts = parse_image(answer)
            if facts is None:
                raise self._misnamed(NotThere(f"{self.calls.service} has no image {image}"))
            self._images[image] = facts
        facts = self._images[image]
        arch = next((arch for arch, node in self._remote.nodes.items() if image in node.images), "")
        if arch and facts.architecture and facts.architecture != _ARCHES.get(arch, arch):
            raise ConfigError(
                f"image {image} is of architecture {facts.architecture}, not {arch}",
                hint=f"see [node.{arch}] images in {self._remote.source}",
            )
        return facts

    def _misnamed(self, error: NotThere) -> ConfigError:
        """For a launch: what is not there is what the remote's file names."""
        hint = f"see [ec2] and [node.ARCH] in {self._remote.source}; ids are by region"
        return ConfigError(error.message, hint=hint)

    def _adopt(self, launch: Launch) -> Instance | None:
        """The oldest instance of this token; younger ones are terminated. None if none shows."""
        found = self.find_made(launch)
        for duplicate in found[1:]:
            self.terminate(duplicate.handle)
        return found[0] if found else None

    def choices(self) -> Ec2Choices:
        """What the region has of what a remote's file names."""
        return Ec2Choices(self._connection, self._price_of)

    def images(self) -> Ec2Images:
        """The same region's images."""
        return Ec2Images(self._connection)

    def _describe(self, handle: str) -> Described | None:
        try:
            answer = self._connection.read("DescribeInstances", {"InstanceId.1": handle})
        except NotThere:
            return None
        found = parse_instances(answer)
        return next((item for item in found if item.instance.handle == handle), None)

    def _list(self, lease_id: str) -> list[Described]:
        tag = {f"tag:{TAG_LEASE}": [lease_id]} if lease_id else {"tag-key": [TAG_LEASE]}
        wanted = filters({**tag, "instance-state-name": _NOT_ENDED})
        found = (
            described
            for answer in self._connection.read_pages("DescribeInstances", wanted)
            for described in parse_instances(answer)
        )
        return [item for item in found if _is_listed(item.instance, lease_id)]


def _is_listed(instance: Instance, lease_id: str) -> bool:
    """What the filter asked for, looked at again: by this list things are terminated."""
    lease = instance.tags.get(TAG_LEASE, "")
    return instance.state is not InstanceState.ENDED and bool(lease) and lease_id in ("", lease)


def make_ec2_api(remote: Remote) -> Ec2Api:
    """The adapter of a remote with a table [ec2]. ConfigError without one."""
    if not isinstance(remote.cloud, Ec2Settings):
        raise ConfigError(f"{remote.source}: a remote of provider ec2 needs a table [ec2]")
    return Ec2Api(remote.cloud, remote)
