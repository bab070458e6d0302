# SPDX-License-Identifier: GPL-2.0-or-later
"""Which images a remote's cloud has, which manifest belongs to each, and handing both over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path

from mock_cloud.attest.manifest import ImageManifest
from mock_cloud.attest.validity import verify_manifest
from mock_cloud.cloud.images import (
    TAG_ARCH,
    TAG_BAKE,
    TAG_BASE,
    TAG_CREATED,
    TAG_MANIFEST,
    Image,
    ImageState,
    find_image_store,
)
from mock_cloud.errors import AttestationRefused, ConfigError, InputError
from mock_cloud.places import state_dir
from mock_cloud.settings import Remote
from mock_cloud.steps.attest.known_good_sets import (
    ManifestReader,
    read_file,
    read_manifest_keys,
    read_public_key,
)
from mock_cloud.wire.dataclass import dataclass

MANIFEST_SUFFIX = ".manifest"
KEY_SUFFIX = ".pub"


class ImageStatus(Enum):
    """What is known here of the manifest that belongs to an image."""

    VERIFIED = "verified"
    """A file of it is here, signed by a key that the remote's file names."""
    REFUSED = "refused"
    """A file of it is here, so signed, and has expired, was revoked, or a newer one was seen."""
    ABSENT = "absent"
    """No file here is it, or one is and was not signed by such a key."""
    NONE = "none"
    """Nobody says that the image has one."""


@dataclass(frozen=True, slots=True)
class ImageRow:
    """One image. `path` is where its manifest is, `used_for` the architectures of the remote's
    file that name the image. Texts come from the API."""

    image: Image
    status: ImageStatus
    manifest_sha256: str
    path: Path | None
    used_for: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        image = self.image
        return {
            "image": image.handle,
            "name": image.name,
            "state": "unfinished" if TAG_BAKE in image.tags else image.state.value,
            "arch": image.tags.get(TAG_ARCH, ""),
            "created": image.tags.get(TAG_CREATED, ""),
            "base": image.tags.get(TAG_BASE, ""),
            "shared_with": list(image.sharing),
            "public": image.is_public,
            "manifest": self.manifest_sha256,
            "manifest_file": "" if self.path is None else str(self.path),
            "standing": self.status.value,
            "used_for": list(self.used_for),
        }


def list_images(remote: Remote, manifest_dir: Path) -> list[ImageRow]:
    """The remote's images with mock-cloud's tags, and those that its file names. By name.

    Manifests are looked for where the remote's file says, and in `manifest_dir`. ConfigError,
    CloudError.
    """
    store = find_image_store(remote)
    images = {image.handle: image for image in store.list()}
    named = _named_images(remote)
    for handle in named.keys() - images.keys():
        image = store.find(handle)
        if image is not None:
            images[handle] = image
    here = list(_manifests_here(remote, manifest_dir))
    rows = [_row(image, tuple(named.get(handle, ())), here) for handle, image in images.items()]
    return sorted(rows, key=lambda row: (row.image.name, row.image.handle))


def _named_images(remote: Remote) -> dict[str, list[str]]:
    """Images that the remote's file names, with the architectures they are for."""
    named: dict[str, list[str]] = {}
    for arch, node in remote.nodes.items():
        for image in node.images:
            named.setdefault(image, []).append(arch)
    return named


@dataclass(frozen=True, slots=True)
class _Here:
    path: Path
    manifest: ImageManifest
    status: ImageStatus


def _row(image: Image, used_for: tuple[str, ...], here: list[_Here]) -> ImageRow:
    # The account that an image is shared with sees its name, which is the manifest's, but no tags.
    wanted = image.tags.get(TAG_MANIFEST, "")
    for one in here:
        manifest = one.manifest
        if manifest.sha256 == wanted or (not wanted and manifest.name == image.name):
            return ImageRow(image, one.status, manifest.sha256, one.path, used_for)
    return ImageRow(
        image, ImageStatus.ABSENT if wanted else ImageStatus.NONE, wanted, None, used_for
    )


def _manifests_here(remote: Remote, directory: Path) -> Iterator[_Here]:
    """Manifests on this machine whose signature the remote's keys verify; others are passed over.

    What the remote's file names must be readable only when a node is to be attested by it.
    """
    named = (remote.attest.manifest, *(node.manifest for node in remote.nodes.values()))
    found = sorted(directory.glob(f"*{MANIFEST_SUFFIX}")) if directory.is_dir() else []
    keys = read_manifest_keys(remote)
    reader = ManifestReader(remote, state_dir(), remember=False)
    for path in dict.fromkeys((*(one for one in named if one is not None), *found)):
        try:
            manifest = verify_manifest(
                read_file(path, "the manifest"), keys, threshold=remote.attest.manifest_threshold
            ).manifest
        except (AttestationRefused, ConfigError):
            continue
        try:
            reader.read(path)
        except AttestationRefused:
            yield _Here(path, manifest, ImageStatus.REFUSED)
        else:
            yield _Here(path, manifest, ImageStatus.VERIFIED)


@dataclass(frozen=True, slots=True)
class Shared:
    """An image as it is shared now, and the files that its users need.

    `acceptance` says what they must do besides; empty: nothing.
    """

    image: Image
    files: tuple[Path, ...]
    acceptance: str = ""


def share_image(
    remote: Remote,
    handle: str,
    accounts: Sequence[str],
    *,
    public: bool,
    manifest_dir: Path,
    export: Path | None,
) -> Shared:
    """Let others boot an image that we made, and write what they attest its nodes by to `export`.

    Without accounts and `public` nothing changes but the export. An image whose manifest is
    not verified here is not shared: nobody could attest a node of it. ConfigError, InputError.
    """
    store = find_image_store(remote)
    row = next(
        (one for one in list_images(remote, manifest_dir) if one.image.handle == handle), None
    )
    if row is None or not row.image.tags:
        raise InputError(
            f"{store.service} has no image {handle} that mock-cloud baked in this account",
            hint=f"mock-cloud image list {remote.name}",
        )
    if row.image.state is not ImageState.AVAILABLE or TAG_BAKE in row.image.tags:
        raise InputError(f"the image {handle} is not finished", hint="bake again")
    if row.status is ImageStatus.REFUSED:
        raise InputError(
            f"the manifest of {handle}, {row.path}, is not to be used any more",
            hint="mock-cloud known-good show says why; known-good sign --renew signs it anew",
        )
    if row.status is not ImageStatus.VERIFIED or row.path is None:
        raise InputError(
            f"the manifest of {handle} (sha256 {row.manifest_sha256}) is not on this machine",
            hint=f"put it into {manifest_dir}, signed by a key of [attest] manifest_keys",
        )
    files = () if export is None else _export(row, row.path, remote, export)
    if accounts or public:
        store.share(handle, accounts, public=public)
    image = store.find(handle) or row.image
    return Shared(image, files, store.acceptance.format(image=handle) if image.sharing else "")


def _export(row: ImageRow, path: Path, remote: Remote, directory: Path) -> tuple[Path, ...]:
    """The manifest and the keys that may have signed it, as files to hand over."""
    name = row.image.name or row.image.handle
    manifest = directory / f"{name}{MANIFEST_SUFFIX}"
    files = [(manifest, read_file(path, "the manifest"))]
    for number, key in enumerate(remote.attest.manifest_keys):
        suffix = f"-{number}" if number else ""
        line = f"{read_public_key(key)} mock-cloud image key\n"
        files.append((directory / f"{name}{suffix}{KEY_SUFFIX}", line.encode()))
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for target, data in files:
            target.write_bytes(data)
    except OSError as error:
        raise InputError(f"cannot write {error.filename}: {error.strerror}") from error
    return tuple(target for target, _ in files)
