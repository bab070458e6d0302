# SPDX-License-Identifier: GPL-2.0-or-later
"""Packing toolkits: of this machine's own python, or of signed packages for another machine.

The same inputs make the same archive, byte for byte. It is tried before it is kept. A small index
beside it says what it was made of and chosen by, so that a later call only compares: files of the
controller by their times, packages by their age.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mock_cloud.errors import ConfigError
from mock_cloud.model import Toolkit
from mock_cloud.settings import ToolkitSettings
from mock_cloud.toolkit import archive
from mock_cloud.toolkit.machines import Machine, find_machine, own_arch
from mock_cloud.toolkit.origin import PACKAGE, base_python
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.decode import load_json
from mock_cloud.wire.files import replace_file

# Most builds find their toolkit: what packs is loaded where one is packed.
if TYPE_CHECKING:
    from mock_cloud.toolkit.contents import Contents
    from mock_cloud.toolkit.packages import PackageSet, SignedPackage
    from mock_cloud.toolkit.prove import Proof

PACKAGES_MAX_AGE_S: Final = 7 * 86400.0
"""After this, packages are fetched again: they may have been updated since."""


@dataclass(frozen=True, slots=True)
class PackedToolkit:
    """A toolkit in the cache. `packages` are empty for one of this machine's own python."""

    toolkit: Toolkit
    packed_at: float
    proof: Proof
    packages: tuple[SignedPackage, ...]


def pack_toolkit(cache_dir: Path, python: Path | None = None) -> Toolkit:
    """The toolkit of `python`, from `cache_dir` if nothing it is made of has changed.

    By default the interpreter is the one behind the running one. `cache_dir` is made if need
    be; packing at the same time in another process is harmless. Raises ConfigError if the
    cache cannot be written, prove.ToolkitBroken if the toolkit does not work, InputError for an
    interpreter that cannot be packed.
    """
    python = python.resolve() if python is not None else base_python()
    index = cache_dir / f"toolkit-{_digest(python)}.json"
    cached = archive.find(index, build=sys.version if python == base_python() else "")
    if cached is not None:
        return cached[0]
    from mock_cloud.toolkit.contents import gather

    return _keep(gather(python), index, {})


def pack_packages(
    cache_dir: Path, arch: str, source: ToolkitSettings, *, refresh: bool = False
) -> Toolkit:
    """The toolkit for `arch` of signed packages, from `cache_dir` if it was packed recently.

    `source` says where packages come from; an empty one means what this machine is configured
    for. A cached archive's digest is checked; `refresh` fetches in any case. Raises ConfigError,
    packages.PackagesUnavailable, packages.PackagesRefused, prove.ToolkitBroken, InputError.
    """
    from mock_cloud.toolkit import foreign
    from mock_cloud.toolkit.packages import check_dates

    machine = find_machine(arch)
    index = cache_dir / f"packages-{machine.name}-{_key(source)}.json"
    cached = None if refresh else archive.find(index, whole=True)
    if cached is not None and 0 <= time.time() - cached[1]["packed_at"] < PACKAGES_MAX_AGE_S:
        return cached[0]
    seen = index.with_suffix(".seen")
    dates = _read_dates(seen)
    fetched = _fetch(machine, source)
    check_dates(fetched.dates, dates)
    gathered = foreign.gather_foreign(fetched.tree, machine)
    gathered.inputs += fetched.inputs
    gathered.listed |= {path.parent for path in fetched.inputs}
    packages = [[one.file, one.sha256, one.signer] for one in fetched.packages]
    toolkit = _keep(gathered, index, {"packages": packages})
    replace_file(seen, json.dumps({**dates, **fetched.dates}).encode(), 0o600)
    return toolkit


def _keep(gathered: Contents, index: Path, more: Mapping[str, Any]) -> Toolkit:
    """Only what was tried, if it can run here."""
    from mock_cloud.toolkit.prove import Proof, prove

    runs = gathered.arch == own_arch()
    proof = prove(gathered.members) if runs else Proof.NOT_RUN
    return archive.keep(gathered, index, {**more, "packed_at": time.time(), "proof": proof.name})


def toolkit_for(cache_dir: Path, arch: str, source: ToolkitSettings) -> Toolkit:
    """The toolkit that runs on nodes of `arch`. Raises as `pack_toolkit` and `pack_packages` do."""
    if arch == own_arch() and source == ToolkitSettings():
        return pack_toolkit(cache_dir)
    return pack_packages(cache_dir, arch, source)


def list_packed(cache_dir: Path) -> Iterator[PackedToolkit]:
    """The toolkits in the cache that are up to date."""
    from mock_cloud.toolkit.packages import SignedPackage
    from mock_cloud.toolkit.prove import Proof

    for index in sorted(cache_dir.glob("*.json")):
        found = archive.find(index)
        if found is not None:
            toolkit, facts = found
            packages = tuple(SignedPackage(*one) for one in facts.get("packages", ()))
            yield PackedToolkit(toolkit, facts["packed_at"], Proof[facts["proof"]], packages)


def _fetch(machine: Machine, source: ToolkitSettings) -> PackageSet:
    from mock_cloud.toolkit import debian, rpms

    if source.repository and source.mirror:
        raise ConfigError("a toolkit is packed from one source: a mirror or a repository")
    with tempfile.TemporaryDirectory(prefix="mock-cloud-packages-") as name:
        place = Path(name)
        if source.repository or not (source.mirror or debian.has_apt()):
            if not rpms.has_dnf():
                raise ConfigError(
                    f"a toolkit for {machine.name} is packed from packages that apt or dnf"
                    " fetches; neither is here",
                    hint="install dnf, or apt with dpkg",
                )
            return rpms.fetch_rpms(machine, source, place)
        if not debian.has_apt():
            raise ConfigError("a Debian archive is read by apt, which is not here")
        return debian.fetch_debian(machine, source, place)


def _key(source: ToolkitSettings) -> str:
    return _digest(source.mirror, source.suite, source.keyring, source.repository, source.key)


def _digest(*words: object) -> str:
    """Of what an index stands for, and of where the agent's code is that goes into the toolkit.

    Installations of one user share the cache, and each packs its own agent.
    """
    text = "\0".join(map(str, (*words, PACKAGE)))
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:16]


def _read_dates(path: Path) -> dict[str, int]:
    try:
        found: Any = load_json(path.read_bytes())
        return {str(name): int(date) for name, date in found.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"{path} is damaged: it tells old packages from new ones", hint="remove it"
        ) from error
