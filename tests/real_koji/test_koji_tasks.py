# SPDX-License-Identifier: GPL-2.0-or-later
"""Koji's less usual tasks and tags, through a real hub and real builders."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab.http import FileServer
from tests.lab.srpm import Recipe
from tests.real_koji.system import Calls, RealKoji, build_target

pytestmark = [pytest.mark.koji, pytest.mark.lab]
MakeSrpm = Callable[[Recipe], Path]

WRAPPER = """\
Name: ${name}-wrapper
Version: $version
Release: $release
Summary: What an image is wrapped in
License: MIT
BuildArch: noarch
#set $number = 0
#for $file in $all_artifacts
Source$number: $file
#set $number += 1
#end for
%description
None.
%install
install -D -m 644 %{SOURCE0} %{buildroot}/usr/share/toy-wrapper/disk
%files
/usr/share/toy-wrapper
"""


def arch_log(koji: RealKoji, task: int, name: str) -> str:
    return koji.logs(koji.child(task, "buildArch")["id"])[name]


def test_a_side_tag(koji: RealKoji, chain_srpms: tuple[Path, Path]) -> None:
    """What was built for a side tag is in the chroots of the tag's next builds."""
    first, second = chain_srpms
    tag = koji.koji("add-sidetag", "lab-build").split()[-1]
    task = koji.build(first, target=tag)
    koji.expect(task)
    (build,) = koji.api.listBuilds({"__starstar": True, "taskID": task})
    koji.koji("wait-repo", "--request", "--build", build["nvr"], tag)
    after = koji.build(second, "--scratch", target=tag)
    koji.expect(after)
    installed = koji.api.listRPMs(
        {"__starstar": True, "componentBuildrootID": buildroot(koji, after)}
    )
    assert "toy-chain-a" in {one["name"] for one in installed}
    koji.koji("remove-sidetag", tag)


def buildroot(koji: RealKoji, task: int) -> int:
    arch = koji.child(task, "buildArch")["id"]
    (found,) = koji.api.listBuildroots({"__starstar": True, "taskID": arch})
    number: int = found["id"]
    return number


def test_two_architectures_of_which_one_is_for_noarch_only(
    koji: RealKoji, plain_srpm: Path
) -> None:
    """No builder has the other one; noarch packages are built where `noarch_arches` says."""
    arch, other = platform.machine(), {"x86_64": "aarch64"}.get(platform.machine(), "x86_64")
    koji.koji("edit-tag", "--arches", f"{arch} {other}", "-x", f"noarch_arches={arch}", "lab-build")
    try:
        koji.koji("regen-repo", "--wait", "lab-build")
        task = koji.build(plain_srpm, "--scratch")
        koji.expect(task)
        assert koji.child(task, "buildArch")["arch"] == arch
        assert "verdict: trusted" in arch_log(koji, task, "remote_attestation.log")
    finally:
        koji.koji("edit-tag", "--arches", arch, "-r", "noarch_arches", "lab-build")
        koji.koji("regen-repo", "--wait", "lab-build")


def test_inherited_packages_that_are_signed(koji: RealKoji, plain_srpm: Path) -> None:
    """No external repository: the chroot is of packages that a tag inherits, signed by the lab."""
    packages = sorted((koji.cloud.lab.dist / "1").glob("*.rpm"))
    koji.koji("import", "--create-build", *packages)
    builds = koji.api.listBuilds({"__starstar": True, "state": 1})
    calls: Calls = [("createTag", ["distribution"], {}), *build_target("inherits", external="")]
    calls += [("packageListAdd", ["distribution", one["name"], "admin"], {}) for one in builds]
    calls += [("tagBuildBypass", ["distribution", one["build_id"]], {}) for one in builds]
    koji.call(calls)
    koji.koji("add-tag-inheritance", "--priority", "10", "inherits", "distribution")
    koji.koji("regen-repo", "--wait", "inherits-build")
    task = koji.build(plain_srpm, "--scratch", target="inherits")
    koji.expect(task)
    installed = koji.api.listRPMs(
        {"__starstar": True, "componentBuildrootID": buildroot(koji, task)}
    )
    assert not {one["external_repo_name"] for one in installed} - {"INTERNAL"}
    (bash,) = [one for one in installed if one["name"] == "bash"]
    assert koji.api.queryRPMSigs({"__starstar": True, "rpm_id": bash["id"]})


def test_a_wrapper_of_an_image(koji: RealKoji, tmp_path: Path) -> None:
    """One chroot for the source package and for the package."""
    disk = tmp_path / "toy-image-1-1.x86_64.raw.xz"
    disk.write_bytes(b"an image")
    koji.koji("add-pkg", "--owner", "admin", "lab", "toy-image")
    koji.koji("import-archive", "--noprogress", "--create-build", "--type", "image",
              "--type-info", platform.machine(), "toy-image-1-1", str(disk))  # fmt: skip
    recipe = Recipe("toy-image-wrapper", "", {"toy-image-wrapper.spec.tmpl": WRAPPER.encode()})
    url = koji.make_repository(recipe)
    before = koji.launched()
    task = koji.submit("wrapper-rpm", "--scratch", "--nowait", "lab", "toy-image-1-1", url)
    koji.expect(task)
    names = {name for name in koji.api.listTaskOutput(task) if name.endswith(".rpm")}
    assert "toy-image-wrapper-1-1.noarch.rpm" in names
    assert koji.launched() - before == 1


def test_runroot_is_refused_by_name(koji: RealKoji) -> None:
    koji.koji("grant-permission", "--new", "runroot", "admin")
    words = ("--channel-override", "default", "--task-id", "--nowait")
    task = int(koji.koji("runroot", *words, "lab-build", platform.machine(), "true"))
    assert koji.wait(task) == ["FAILED"]
    said = koji.logs(task)
    assert "Koji's runroot cannot run on a remote node" in "".join(said.values()), said


def test_an_external_repository_through_the_tunnel(koji: RealKoji, plain_srpm: Path) -> None:
    """Koji's repository names the packages by the external one's address, another server's."""
    koji.only("b1.lab")
    koji.edit("b1.lab", '$a [build]\\nrepo_access = "tunnel"')
    try:
        host = koji.cloud.site.network.host_address
        with FileServer({"/dist": koji.cloud.lab.dist}, host=host) as near:
            calls: Calls = [("createExternalRepo", ["near", f"{near.url}/dist/1/"], {})]
            koji.call([*calls, *build_target("near", external="near")])
            koji.koji("regen-repo", "--wait", "near-build")
            near.forget_accesses()
            koji.expect(koji.build(plain_srpm, "--scratch", target="near"))
            assert any(one.path.endswith(".rpm") for one in near.accesses()), near.accesses()
    finally:
        koji.edit("b1.lab", "/^\\[build\\]/d; /^repo_access/d")
