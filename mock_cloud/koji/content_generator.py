# SPDX-License-Identifier: GPL-2.0-or-later
"""Verified results as Koji imports them: the metadata of a content generator.

Format: docs/source/content_generator_metadata.rst of koji, version 0; what of it the hub checks is
`CG_Importer` in kojihub/kojihub.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from mock_cloud.errors import InputError
from mock_cloud.provenance.files import digest_file, open_regular
from mock_cloud.provenance.statement import EVIDENCE_NAME, PROVENANCE_NAME, Descriptor, Provenance
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.rpmfile import is_source, read_file
from mock_cloud.wire.rpmheader import Header, HeaderError, Tag, Type

_BUILDROOT: Final = 1
_NEVRA: Final = re.compile(
    r"(?P<name>.+)-(?:(?P<epoch>\d+):)?(?P<version>[^-]+)-(?P<release>[^-]+)\.(?P<arch>[^.-]+)"
)


@dataclass(frozen=True, slots=True)
class KojiChoices:
    """What Koji wants to know and no provenance says; empty texts and None leave it out.

    `generator` is the content generator's name at the hub; `source` the URL of the sources, `owner`
    a user of Koji's.
    """

    generator: str
    source: str = ""
    owner: str = ""
    task_id: int | None = None


@dataclass(frozen=True, slots=True)
class _Package:
    """A result that is a package; `source` is the file name of its source package."""

    name: str
    arch: str
    source: str
    epoch: int | None


def make_metadata(place: Path, provenance: Provenance, choices: KojiChoices) -> dict[str, Any]:
    """The document, of results at `place` that were verified to be those of `provenance`.

    InputError where they are not of one source package; OSError, HeaderError for a file that has
    changed since.
    """
    packages = [_read_package(place, name) for name in sorted(provenance.results)]
    used = provenance.used
    archs = sorted({one.arch for one in packages} - {"noarch", "src"})
    build = {
        **_find_build(packages),
        "source": choices.source or None,
        "start_time": provenance.started_unix,
        "end_time": provenance.finished_unix,
        "extra": {
            "typeinfo": {"rpm": {}},
            "mock-cloud": {
                "job": provenance.job,
                "provenance_sha256": digest_file(place / PROVENANCE_NAME),
                "not_proved": list(used.attestation.not_proved),
            },
        },
    }
    if choices.owner:
        build["owner"] = choices.owner
    if choices.task_id is not None:
        build["task_id"] = choices.task_id
    buildroot = {
        "id": _BUILDROOT,
        "host": {"os": used.attestation.manifest, "arch": used.node.arch},
        "content_generator": {"name": choices.generator, "version": used.version},
        "container": {
            "type": "mock-chroot" if used.engine == "mock" else "chroot",
            "arch": archs[0] if archs else used.node.arch,
        },
        "tools": [{"name": "mock-cloud", "version": used.version}],
        "components": list(_components(provenance)),
        "extra": {
            "mock-cloud": {
                "builder": used.node.builder,
                "host_key": used.node.host_key,
                "tier": used.attestation.tier,
                "verdict_sha256": used.attestation.verdict,
            }
        },
    }
    return {
        "metadata_version": 0,
        "build": build,
        "buildroots": [buildroot],
        "output": [*_package_outputs(place, provenance, packages), *_logs(place, provenance)],
    }


def count_unknown(provenance: Provenance) -> int:
    """Packages of the build chroot that Koji can't be told: their sigmd5 is not known."""
    installed = [one for one in provenance.dependencies if one.annotations.get("installed")]
    return len(installed) - len(list(_components(provenance))) - _count_keys(installed)


def _count_keys(installed: list[Descriptor]) -> int:
    return sum(one.name.startswith("gpg-pubkey-") for one in installed)


def _read_package(place: Path, name: str) -> _Package:
    with open_regular(place / name) as stream:
        header = read_file(stream).header
    arch = "src" if is_source(header) else _text(header, Tag.ARCH)
    nvr = "-".join(_text(header, tag) for tag in (Tag.NAME, Tag.VERSION, Tag.RELEASE))
    expected = f"{nvr}.{arch}.rpm"
    if Path(name).name != expected:
        raise InputError(f"{name} is called otherwise than the package in it, {expected}")
    source = expected if arch == "src" else _text(header, Tag.SOURCERPM)
    epoch = header.integers(Tag.EPOCH, Type.INT32)
    return _Package(name, arch, source, epoch[0] if epoch else None)


def _text(header: Header, tag: Tag) -> str:
    found = header.string(tag)
    if not found:
        raise HeaderError(f"a package without {tag.name}")
    return found


def _find_build(packages: list[_Package]) -> dict[str, Any]:
    """Name, version and release of the one source package, and its epoch where that is known."""
    sources = sorted({one.source for one in packages})
    if len(sources) > 1:
        raise InputError(
            f"a build of Koji has one source package, and these are of {', '.join(sources[:3])}",
            hint="name the directory of one package",
        )
    name, version, release = sources[0].removesuffix(".src.rpm").rsplit("-", 2)
    epochs = [one.epoch for one in packages if one.arch == "src"]
    epoch = {"epoch": epochs[0]} if epochs else {}
    return {"name": name, "version": version, "release": release, **epoch}


def _components(provenance: Provenance) -> Iterator[dict[str, Any]]:
    for one in provenance.dependencies:
        match = _NEVRA.fullmatch(one.name)
        md5 = one.annotations.get("sigmd5")
        if not one.annotations.get("installed") or match is None or not isinstance(md5, str):
            continue
        yield {
            "type": "rpm",
            **{name: match[name] for name in ("name", "version", "release", "arch")},
            "epoch": int(match["epoch"]) if match["epoch"] else None,
            "sigmd5": md5,
            "signature": None,
        }


def _package_outputs(
    place: Path, provenance: Provenance, packages: list[_Package]
) -> Iterator[dict[str, Any]]:
    for one in packages:
        size, digest = provenance.used.sizes[one.name], provenance.results[one.name]
        if digest_file(place / one.name) != digest:  # signed since, which the verifier allowed
            size, digest = (place / one.name).stat().st_size, digest_file(place / one.name)
        yield _output(one.name, size, digest, type="rpm", arch=one.arch)


def _logs(place: Path, provenance: Provenance) -> Iterator[dict[str, Any]]:
    """The provenance and its evidence among them: they stay with the build."""
    for name, digest in provenance.logs.items():
        yield _log(name, provenance.used.sizes[name], digest)
    for name in (PROVENANCE_NAME, EVIDENCE_NAME):
        path = place / name
        if path.exists():
            yield _log(name, path.stat().st_size, digest_file(path))


def _log(name: str, size: int, digest: str) -> dict[str, Any]:
    directory = name.rpartition("/")[0]
    return _output(name, size, digest, type="log", **({"subdir": directory} if directory else {}))


def _output(name: str, size: int, digest: str, **further: Any) -> dict[str, Any]:
    directory, _, last = name.rpartition("/")
    return {
        "buildroot_id": _BUILDROOT, "filename": last, "filesize": size, "checksum": digest,
        "checksum_type": "sha256", **({"relpath": directory} if directory else {}), **further,
    }  # fmt: skip
