# SPDX-License-Identifier: GPL-2.0-or-later
"""What the other end has already crosses no line: a package that is built again, changed."""

from __future__ import annotations

import hashlib
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.conftest import User
from tests.integration.faults import line_to_node
from tests.lab import srpm
from tests.lab.http import FileServer
from tests.lab.relay import Direction
from tests.lab.srpm import Recipe

pytestmark = pytest.mark.lab
_MIB = 1 << 20


def large(line: str, tarball: Path) -> Recipe:
    """A package of 8 MiB of sources, as little compressible as a tarball of today is."""
    return srpm.toy(
        "toy-large-source",
        preamble="BuildArch: noarch\n%global _source_payload w3.zstdio\n",  # here, too
        build=f"echo {line}",
        sources={"toy-large-source-1.tar.xz": tarball},
    )


def test_a_spec_with_another_line(
    lone_mock: User, lab_srpm: Callable[[Recipe], Path], tmp_path: Path
) -> None:
    """Neither do the sources go again, nor does the source package come that was made of them."""
    tarball = tmp_path / "tarball"
    tarball.write_bytes(random.Random(1).randbytes(8 * _MIB))  # noqa: S311 (no secret)
    first, second = (lab_srpm(large(word, tarball)) for word in ("once", "twice"))
    with line_to_node(lone_mock) as line:
        moved = []
        for number, package in enumerate((first, second)):
            before = [line.moved_bytes(way) for way in Direction]
            results = tmp_path / f"results-{number}"
            lone_mock.mock("--resultdir", results, package).expect()
            moved.append(
                [line.moved_bytes(way) - at for way, at in zip(Direction, before, strict=True)]
            )
            (made,) = results.glob("*.src.rpm")
            assert made.stat().st_size > 8 * _MIB
    up, down = (list(Direction).index(way) for way in (Direction.UP, Direction.DOWN))
    assert moved[0][up] > 8 * _MIB
    assert moved[0][down] < 4 * _MIB  # the node's evidence
    assert moved[1][up] < _MIB
    assert moved[1][down] < 2 * _MIB


def test_a_lookaside_cache_has_the_sources(
    lone_mock: User, lab_srpm: Callable[[Recipe], Path], tmp_path: Path
) -> None:
    """A package, and a spec with its directory: what `sources` names does not go over the line."""
    name = "toy-large-source-1.tar.xz"
    cache = tmp_path / "cache"

    def checkout(seed: int) -> Path:
        place = tmp_path / f"git{seed}"
        place.mkdir()
        data = random.Random(seed).randbytes(8 * _MIB)  # noqa: S311 (no secret)
        (place / name).write_bytes(data)
        digest = hashlib.sha512(data).hexdigest()
        (place / "sources").write_text(f"SHA512 ({name}) = {digest}\n")
        (place / "toy-large-source.spec").write_text(large("lookaside", place / name).spec)
        return place

    def upload(place: Path) -> None:
        digest = (place / "sources").read_text().split()[-1]
        there = cache / "rpms/toy-large-source" / name / "sha512" / digest / name
        there.parent.mkdir(parents=True)
        shutil.copyfile(place / name, there)

    cache.mkdir()
    with FileServer({"/pkgs": cache}) as server, line_to_node(lone_mock) as line:
        remote = lone_mock.config.path / "remotes.d/local.toml"
        words = "%(name)s/%(filename)s/%(hashtype)s/%(hash)s/%(filename)s"
        setting = f'[build]\nsources = "{server.url}/pkgs/rpms/{words}"'
        remote.write_text(remote.read_text().replace("[build]", setting))

        def moved_by(*argv: str | Path) -> tuple[int, str]:
            before = line.moved_bytes(Direction.UP)
            ended = lone_mock.mock("--resultdir", tmp_path / "results", *argv).expect()
            assert list((tmp_path / "results").glob("*.src.rpm"))
            shutil.rmtree(tmp_path / "results")
            return line.moved_bytes(Direction.UP) - before, ended.stderr

        first, second, third = (checkout(seed) for seed in (1, 2, 3))
        upload(first)
        upload(second)
        built = lab_srpm(large("lookaside", first / name))
        package = Path(shutil.copy(built, first))
        moved, said = moved_by(package)
        assert moved < _MIB and "sent from here" not in said
        buildsrpm = "--buildsrpm", "--spec"
        moved, said = moved_by(*buildsrpm, second / "toy-large-source.spec", "--sources", second)
        assert moved < _MIB and "sent from here" not in said
        assert [one.sent_bytes for one in server.accesses()] == [8 * _MIB, 8 * _MIB]
        moved, said = moved_by(*buildsrpm, third / "toy-large-source.spec", "--sources", third)
        assert moved > 8 * _MIB
        assert f"sent from here: {name}: " in said and "status 404" in said
