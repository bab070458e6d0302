# SPDX-License-Identifier: GPL-2.0-or-later
"""What the lab's clouds have in common: machines, images, a repository that nodes reach."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeVar

from tests.lab import chroots
from tests.lab.bootable.system import system_tree
from tests.lab.chroots import ConfigDirectory
from tests.lab.clouds import images
from tests.lab.clouds.backend import Backend
from tests.lab.clouds.faults import Faults, Request, Response
from tests.lab.clouds.machines import Machine, Site
from tests.lab.clouds.proxy import Calls, Proxy, ask_upstream
from tests.lab.clouds.remotes import write_private
from tests.lab.http import FileServer
from tests.lab.layout import Lab, LabError

Self = TypeVar("Self", bound="Cloud")


@dataclass(frozen=True, slots=True)
class Listing:
    """Identifiers of everything that exists according to the cloud itself, but what it began with.

    Instances that are terminated no longer exist.
    """

    instances: tuple[str, ...] = ()
    key_pairs: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    images: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not any(getattr(self, one.name) for one in fields(self))


class Cloud:
    """One cloud from its API to its nodes; a context manager.

    To be made in the main thread: its backend dies with the thread that starts it.

    `pending_s` is how long an instance is pending at least. With `early_sshd` nodes start sshd as
    systemd would, before cloud-init's last stages; without it when those are done. Where the
    lab has systemd, nodes are virtual machines, and `clock` is the time that new ones have.
    """

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.site = Site()
        self.proxy = Proxy(self.name, self.act)
        self.pending_s = 0.0
        self.early_sshd = False
        self.clock = ""
        self.image_id = ""
        self.stock_images: set[str] = set()
        self._disks: dict[str, Path] = {}
        self._stack = ExitStack()

    @property
    def url(self) -> str:
        """The API's, without a slash at its end."""
        return f"http://127.0.0.1:{self.proxy.port}"

    @property
    def faults(self) -> Faults:
        return self.proxy.faults

    @property
    def calls(self) -> Calls:
        return self.proxy.calls

    @property
    def manifest(self) -> Path:
        """The stock image's signed manifest, for this machine's kernel; the key is the lab's."""
        return self.site.directory / "manifest.dsse.json"

    @property
    def repository_url(self) -> str:
        """The lab's distribution as nodes reach it: ``…/dist``, for `chroots.write`."""
        return f"{self.repository.url}/dist"

    def nodes(self) -> tuple[Machine, ...]:
        """The machines behind the cloud's instances, running or stopped."""
        return self.site.machines()

    def node(self, instance: str) -> Machine:
        """The machine of an instance. KeyError if there is none (any more)."""
        found = self.site.find(instance)
        if found is None:
            raise KeyError(instance)
        return found

    def write_config(self, path: Path) -> ConfigDirectory:
        """A configuration directory whose repositories nodes reach, with remotes for this cloud."""
        written = chroots.write(self.lab, path, repository_url=self.repository_url)
        for name, text in self.private_files().items():
            write_private(path / name, text)
        return written

    def add_image(self, tree: Path, name: str) -> str:
        """Offer another tree; the id of its image."""
        disk = self.site.directory / "images" / f"{name}.img"
        images.make_disk(tree, disk)
        image = self.register(name)
        self._disks[image] = disk
        self.stock_images.add(image)
        return image

    def prepare(self) -> None:
        """Make the stock image unless the lab has it. Not two at once in one lab."""
        images.build(self.lab)

    def __enter__(self: Self) -> Self:
        with ExitStack() as stack:
            stock = images.build(self.lab)
            stack.enter_context(self.site)
            (self.site.directory / "images").mkdir()
            self.site.on_end = self.on_end
            self.backend = stack.enter_context(self.make_backend())
            stack.enter_context(self.proxy)
            host = self.site.network.host_address
            self.repository = stack.enter_context(FileServer({"/dist": self.lab.dist}, host=host))
            stack.callback(self.remove_machines)
            if not self.lab.has_systemd:  # nobody signs for a stock image; it is baked from
                images.write_manifest(self.lab, stock, self.manifest)
            self.image_id = self.register("lab-stock")
            self._disks[self.image_id] = stock.disk
            self.stock_images.add(self.image_id)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def remove_machines(self) -> None:
        """End every node, whatever the API says."""
        self.site.on_end = lambda machine: None
        for machine in self.nodes():
            self.site.destroy(machine.name)
        self.site.on_end = self.on_end

    def disk(self, image: str) -> Path:
        """What an instance of this image boots from. LabError for an image without a disk."""
        try:
            return self._disks[image]
        except KeyError:
            raise LabError(f"image {image} was not made by this cloud") from None

    def keep_disk(self, image: str, machine: Machine) -> None:
        """Have `image` boot what is on the machine's disk now."""
        target = self.site.directory / "images" / f"{image}.img"
        machine.copy_disk(target)
        self._disks[image] = target

    def drop_disk(self, image: str) -> None:
        if image in self._disks and image not in self.stock_images:
            self._disks.pop(image).unlink()

    @property
    def system(self) -> Path | None:
        """The tree with QEMU, where nodes are virtual machines."""
        return system_tree(self.lab) if self.lab.has_systemd else None

    def node_environment(self) -> dict[str, str]:
        """Of the first process of a node: what a boot loader would say."""
        return {"EARLY_SSHD": "1"} if self.early_sshd else {}

    def ask(self, request: Request) -> Response:
        """What moto or mimic answers."""
        return ask_upstream(self.backend.port, request)

    def private_files(self) -> dict[str, str]:
        """Remotes and credentials, by their paths in a configuration directory."""
        raise NotImplementedError

    def environment(self, path: Path) -> tuple[str, ...]:
        """Variables, ``NAME=VALUE``, that clients want besides the configuration at `path`."""
        return ()

    def make_backend(self) -> Backend:
        """The server behind the proxy, not started."""
        raise NotImplementedError

    def register(self, name: str) -> str:
        """Make the backend know an image; its id."""
        raise NotImplementedError

    def name(self, request: Request) -> Request:
        """The request with its operation and parameters."""
        raise NotImplementedError

    def act(self, request: Request) -> Response:
        """Answer a request."""
        raise NotImplementedError

    def on_end(self, machine: Machine) -> None:
        """A machine ended, told to or not."""
        raise NotImplementedError

    def reset(self) -> None:
        """As it was at its start: nothing exists, nothing is armed, nothing was asked."""
        raise NotImplementedError

    def listing(self) -> Listing:
        """What the cloud itself says exists, past the proxy and its faults."""
        raise NotImplementedError
