# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds by the chroot engine in a lab node: real dnf, real rpmbuild, real namespaces."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.component.cloud_nodes import eventually
from tests.component.engine_node import (
    LAB,
    NEEDS_LAB,
    EngineNode,
    EngineSite,
    engine_config,
    engine_site,
)
from tests.lab.http import FileServer

pytestmark = NEEDS_LAB


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineSite]:
    with engine_site(tmp_path_factory.mktemp("engine")) as site:
        yield site


@pytest.mark.slow
def test_a_package_is_built_as_mock_builds_it(site: EngineSite) -> None:
    build = "id -un; pwd; env | grep -E '^(HOME|TERM|HOSTNAME|SHELL)=' | sort"
    ended = site.rebuild(site.source("plain", head="BuildRequires: make", build=build))
    assert ended.exit == 0, ended.stderr
    assert ended.results() == [
        "build.log",
        "chroot-packages.json",
        "hw_info.log",
        "installed_pkgs.log",
        "plain-1.0-1.lab1.noarch.rpm",
        "plain-1.0-1.lab1.src.rpm",
        "root.log",
        "state.log",
    ]
    package = ended.directory / "results/plain-1.0-1.lab1.noarch.rpm"
    listed = subprocess.run(
        ["rpm", "-qpl", str(package)], capture_output=True, text=True, check=True
    )
    assert "/usr/share/plain/name" in listed.stdout
    log = ended.log("build.log")
    for line in ("mockbuild", "HOME=/builddir", "TERM=vt100", "HOSTNAME=mock"):
        assert f"\n{line}\n" in log
    assert "/usr/bin/rpmbuild -bs  --target x86_64 --nodeps /builddir/build/SPECS/plain.spec" in log
    assert "\nChild return code was: 0\n" in log


def test_logs_have_the_formats_of_mock(site: EngineSite) -> None:
    ended = site.rebuild(site.source("formats"))
    stamp = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} - "
    for line in ended.log("state.log").splitlines():
        assert re.match(stamp + r"(Mock Version|Start|Finish): ", line), line
    states = re.sub(stamp, "", ended.log("state.log")).splitlines()[1:]
    assert states[:2] == ["Start: run", "Start: clean chroot"]
    assert states[-1] == "Finish: run"
    assert "Start: build phase for formats-1.0-1.lab1.src.rpm" in states
    starts = [line[7:] for line in states if line.startswith("Start: ")]
    assert sorted(starts) == sorted(line[8:] for line in states if line.startswith("Finish: "))
    # rpm 6 has no SIZE in packages of format 6, and mock asks for no other tag.
    packages = ended.log("installed_pkgs.log")
    assert re.search(r"^make-\S+ \d+ (\d+|\(none\)) installed$", packages, re.M)
    assert "Start(formats-1.0-1.lab1.src.rpm)  Config(lab-1-x86_64)" in ended.stderr
    assert re.search(
        r"INFO: Done\(formats\S+\) Config\(lab-1-x86_64\) \d+ minutes \d+ seconds", ended.stderr
    )


def test_the_second_build_installs_nothing(site: EngineSite) -> None:
    package = site.source("twice", head="BuildRequires: patch")
    first = site.rebuild(package)
    assert first.exit == 0, first.stderr
    site.server.forget_accesses()
    second = site.rebuild(package)
    assert second.exit == 0
    assert second.status["layers"] == first.status["layers"]
    assert [access.path for access in site.server.accesses()] == ["/dist/1/repodata/repomd.xml"]
    assert second.log("installed_pkgs.log") == first.log("installed_pkgs.log")
    assert "install" not in second.log("root.log").replace("installed", "")


def test_chroots_of_other_names_stand_on_the_same_layers(site: EngineSite) -> None:
    """Koji gives each task's chroot a name of its own; what is in it, the name does not decide."""
    package = site.source("named", head="BuildRequires: patch")
    first = site.rebuild(package)
    assert first.exit == 0, first.stderr
    config = replace(engine_config(f"{site.server.url}/dist"), root="task-2")
    site.server.forget_accesses()
    second = site.rebuild(package, config=config)
    assert second.exit == 0, second.stderr
    assert [access.path for access in site.server.accesses()] == ["/dist/1/repodata/repomd.xml"]
    assert second.status["layers"].keys() <= first.status["layers"].keys()
    assert second.log("installed_pkgs.log") == first.log("installed_pkgs.log")


@pytest.mark.slow
def test_a_layer_that_nobody_vouches_for_is_made_anew(site: EngineSite) -> None:
    package = site.source("vouched")
    assert site.rebuild(package).exit == 0
    (base,) = [path for path in site.node.layers if _is_base(site, path)]
    on_disk = site.node.workspace / Path(base).relative_to("/var/lib/mock-cloud")
    (on_disk / "etc/planted").write_text("not ours")
    del site.node.layers[base]
    ended = site.rebuild(site.source("checks", build="test ! -e /etc/planted"))
    assert ended.exit == 0, ended.log("build.log")
    assert base in ended.status["layers"]
    assert not (on_disk / "etc/planted").exists()


def _is_base(site: EngineSite, path: str) -> bool:
    facts = (
        site.node.workspace / Path(path).relative_to("/var/lib/mock-cloud").parent / "layer.json"
    )
    return facts.is_file() and '"kind": "base"' in facts.read_text()


def test_a_failing_build(site: EngineSite) -> None:
    ended = site.rebuild(site.source("failing", build="echo on the way; exit 3"))
    assert ended.exit == 1
    assert "on the way" in ended.log("build.log")
    assert "ERROR: Command failed: \n # bash --login -c" in ended.stderr
    assert "ERROR: Exception(failing-1.0-1.lab1.src.rpm)" in ended.stderr
    assert "Cleaning up build root ('cleanup_on_failure=True')" in ended.stderr
    assert not (site.node.mock / "lab-1-x86_64/overlay").exists()
    assert not any(name.endswith(".rpm") for name in ended.results())


def test_a_program_that_the_chroot_lacks_is_named_and_cleaned_up_after(site: EngineSite) -> None:
    kept = replace(site.config, clean=False)
    assert site.run("init").exit == 0
    removed = site.run("chroot", "rm", "/bin/bash")
    assert removed.exit == 0, removed.stderr
    ended = site.rebuild(site.source("no-bash"), config=kept)
    assert ended.exit == 1
    assert ended.status["message"] == "bash: No such file or directory"
    assert "ERROR: Exception(no-bash-1.0-1.lab1.src.rpm)" in ended.stderr
    assert site.rebuild(site.source("again"), config=kept).exit == 0


def test_build_log_is_text_without_colours(site: EngineSite) -> None:
    shout = r"printf 'caf\351 \033[31mred\033[0m\n'"
    assert "\ncaf\ufffd red\n" in site.rebuild(site.source("shouts", build=shout)).log("build.log")


def test_what_was_built_but_cannot_be_installed_is_a_failure(site: EngineSite) -> None:
    package = site.source("uninstallable", head="Requires: never-there")
    ended = site.rebuild(package, config=replace(site.config, post_install=True))
    assert ended.exit == 30
    assert "ERROR: Installation of built packages failed" in ended.stderr
    assert "ERROR: Exception(uninstallable-1.0-1.lab1.src.rpm)" in ended.stderr
    assert "Cleaning up build root ('cleanup_on_failure=True')" in ended.stderr


def test_a_missing_build_requirement_is_the_package_managers_failure(site: EngineSite) -> None:
    ended = site.rebuild(site.source("wanting", head="BuildRequires: no-such-thing >= 7"))
    assert ended.exit == 30
    assert "no-such-thing" in ended.status["message"]
    assert "no-such-thing" in ended.log("root.log")


def test_dynamic_build_requirements(site: EngineSite) -> None:
    package = site.source(
        "dynamic",
        requires="%generate_buildrequires\necho 'bison >= 3'",
        prep="echo prepared",
        build="bison --version",
    )
    ended = site.rebuild(package)
    assert ended.exit == 0, ended.log("build.log")
    log = ended.log("build.log")
    assert "Dynamic buildrequires detected" in log
    assert "rpmbuild -ba --noprep" in log
    assert log.count("\nprepared\n") == 1
    site.server.forget_accesses()
    again = site.rebuild(package)
    assert again.exit == 0
    assert [access.path for access in site.server.accesses()] == ["/dist/1/repodata/repomd.xml"]


def test_dynamic_build_requirements_can_be_refused(site: EngineSite) -> None:
    package = site.source("refused", requires="%generate_buildrequires\necho make")
    ended = site.rebuild(package, config=replace(site.config, dynamic_buildrequires=False))
    assert ended.exit == 1
    assert "DynamicBuildRequires are found but support is disabled" in ended.stderr


def test_external_build_requirements_are_refused_where_a_package_has_them(site: EngineSite) -> None:
    package = site.source("outward", head="BuildRequires: external:pypi:bokeh")
    allowed = replace(site.config, external_buildrequires=True)
    ended = site.rebuild(package)
    assert ended.exit == 1
    assert "ExternalBuildRequires are found but support is disabled" in ended.stderr
    ended = site.rebuild(package, config=allowed)
    assert ended.exit == 50
    assert "external:pypi:bokeh is not supported by the chroot engine" in ended.stderr
    assert site.rebuild(site.source("inward"), config=allowed).exit == 0


def test_a_build_that_takes_too_long(site: EngineSite) -> None:
    package = site.source("endless", build="(trap '' TERM; sleep 300) & sleep 300")
    ended = site.rebuild(package, config=replace(site.config, rpmbuild_timeout=2))
    assert ended.exit == 11
    assert "Timeout(2) expired for command" in ended.stderr
    assert ended.took_s < 200
    eventually(lambda: not site.node.processes())


def test_check_can_be_left_out(site: EngineSite) -> None:
    package = site.source("unchecked", check="exit 1")
    assert site.rebuild(package).exit == 1
    assert site.rebuild(package, config=replace(site.config, check=False)).exit == 0


@pytest.mark.slow
def test_a_build_has_a_loopback_and_nothing_else(site: EngineSite) -> None:
    port = site.server.port
    reach = f"bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}'"
    alone = f"test $(grep -c : /proc/net/dev) = 1; grep 'lo:' /proc/net/dev; ! {reach}"
    ended = site.rebuild(site.source("alone", build=alone))
    assert ended.exit == 0, ended.log("build.log")
    networked = replace(site.config, rpmbuild_networking=True)
    assert site.rebuild(site.source("social", build=reach), config=networked).exit == 0


def test_a_cancelled_build_leaves_nothing(site: EngineSite) -> None:
    package = site.source("cancelled", build="trap '' TERM; echo started; sleep 300")
    job = site.node.start(site.request("rebuild", package))
    log = site.node.job_dir(job) / "results/build.log"
    deadline = time.monotonic() + 300
    while not log.exists() or "\nstarted\n" not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert len(site.node.processes()) > 3
    start = time.monotonic()
    assert site.node.ask("cancel", job) is True
    assert time.monotonic() - start < 200
    eventually(lambda: not site.node.processes())
    ended = site.node.wait(job)
    assert (ended.exit, ended.status["message"]) == (7, "cancelled")
    assert site.rebuild(site.source("after")).exit == 0


def test_a_killed_job_has_vanished(site: EngineSite) -> None:
    job = site.node.start(site.request("rebuild", site.source("killed", build="sleep 300")))
    site.node.wait_for_phase(job, "rpmbuild")
    assert site.node.ask("state", job) == "running"
    os.kill(site.node.processes()[0], 9)
    deadline = time.monotonic() + 300
    while site.node.ask("state", job) == "running":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert site.node.ask("state", job) == "vanished"
    assert site.node.ask("cancel", job) is True
    assert site.rebuild(site.source("next")).exit == 0


def test_an_engine_that_dies_is_the_nodes_fault(site: EngineSite) -> None:
    job = site.node.start(site.request("rebuild", site.source("orphan", build="sleep 300")))
    site.node.wait_for_phase(job, "rpmbuild")
    os.kill(site.node.processes()[1], 9)
    ended = site.node.wait(job, timeout_s=10)
    assert ended.exit == 75
    assert "the engine ended with signal 9" in ended.status["message"]
    eventually(lambda: not site.node.processes())


@pytest.mark.slow
def test_a_chain_installs_what_it_built_if_asked(site: EngineSite) -> None:
    config = replace(site.config, post_install=True, cleanup_on_success=False)
    first, second = site.source("first"), site.source("second")
    ended = site.run("chain", first, second, config=config)
    assert ended.exit == 0, ended.stderr
    assert ended.stderr.count("INFO: Installing built packages\n") == 2
    kept = site.run("chroot", "rpm -q first second")
    assert kept.exit == 0, kept.stdout
    bad = site.source("uninstallable", head="Requires: never-there")
    ended = site.run("chain", bad, first, config=config)
    assert ended.exit == 4
    assert "ERROR: Installation of built packages failed" in ended.stderr
    assert "uninstallable-1.0-1.lab1/fail" in ended.results()


@pytest.mark.slow  # tests/integration has the same through `mock --remote`
def test_a_changed_repository_is_noticed(site: EngineSite, tmp_path: Path) -> None:
    release = tmp_path / "dist/1"
    shutil.copytree(LAB.release(1), release, copy_function=os.link)
    package = site.source("changing")
    with FileServer({"/dist": tmp_path / "dist"}) as server:
        config = replace(engine_config(f"{server.url}/dist"), root="changing")
        first = site.rebuild(package, config=config)
        assert first.exit == 0, first.stderr
        again = site.rebuild(package, config=config)
        assert again.status["layers"] == first.status["layers"]
        repomd = release / "repodata/repomd.xml"
        text = repomd.read_text()
        repomd.unlink()
        repomd.write_text(text + "<!-- another revision -->\n")
        third = site.rebuild(package, config=config)
        assert third.exit == 0, third.stderr
        assert third.status["layers"].keys() - first.status["layers"].keys()
        server.forget_accesses()
        assert site.rebuild(package, config=config).status["layers"] == third.status["layers"]
        assert [access.path for access in server.accesses()] == ["/dist/1/repodata/repomd.xml"]


def test_an_unreachable_repository_is_named(site: EngineSite) -> None:
    config = engine_config("http://127.0.0.1:9/dist")
    ended = site.rebuild(site.source("stranded"), config=replace(config, root="stranded"))
    assert ended.exit == 30
    last = ended.status["message"].splitlines()[-1]
    assert "'lab'" in last
    assert "http://127.0.0.1:9/dist/1" in last


@pytest.mark.slow
def test_packages_of_a_foreign_key_are_refused(site: EngineSite) -> None:
    request = site.request("rebuild", site.source("foreign"))
    key = site.node.put(LAB.foreign_key, "gpgkey", "lab.asc")
    inputs = [item for item in request.inputs if item.role != "gpgkey"] + [key]
    config = replace(site.config, root="foreign")
    ended = site.node.run(replace(request, inputs=inputs, config=config))
    assert ended.exit == 30
    assert "GPG" in ended.log("root.log")


def test_two_jobs_never_share_a_chroot(site: EngineSite) -> None:
    first = site.node.start(site.request("rebuild", site.source("holding", build="sleep 3")))
    site.node.wait_for_phase(first, "rpmbuild")
    second = site.rebuild(site.source("waiting"))
    assert second.exit == 60
    assert "Build root is locked by another process." in second.stderr
    assert site.node.wait(first).exit == 0


def test_a_spec_file_takes_the_place_of_the_packages_own(site: EngineSite) -> None:
    package = site.source("replaced", build="exit 1")
    spec = site.node.put(package.parent / "replaced.spec", "spec")
    other = site.sources / "other.spec"
    other.write_text((package.parent / "replaced.spec").read_text().replace("exit 1", "true"))
    spec = site.node.put(other, "spec", "replaced.spec")
    request = site.request("rebuild", package, spec="replaced.spec")
    assert site.node.run(replace(request, inputs=[*request.inputs, spec])).exit == 0


def test_several_packages_share_the_results(site: EngineSite) -> None:
    ended = site.rebuild(site.source("one"), site.source("two"))
    assert ended.exit == 0
    assert {"one-1.0-1.lab1.noarch.rpm", "two-1.0-1.lab1.noarch.rpm"} <= set(ended.results())


def test_what_is_no_source_package_is_refused(site: EngineSite, tmp_path: Path) -> None:
    bad = tmp_path / "bad-1.0-1.src.rpm"
    bad.write_bytes(b"no package")
    ended = site.rebuild(bad)
    assert ended.exit == 1
    assert "Cannot find/open srpm" in ended.stderr


def test_results_are_never_links(site: EngineSite) -> None:
    trick = "ln -s /etc/shadow %{_topdir}/RPMS/shadow.rpm; ln -sfn /etc %{_topdir}/SRPMS"
    ended = site.rebuild(site.source("tricky", build=f"{trick} || :"))
    assert "shadow.rpm" not in ended.results()
    moved = "mv %{_topdir}/SRPMS %{_topdir}/x; ln -s /etc %{_topdir}/SRPMS"
    ended = site.rebuild(site.source("trickier", build=moved))
    assert ended.exit == 40
    assert "cannot be read" in ended.stderr


@pytest.mark.slow
def test_additional_packages_and_more_requirements(site: EngineSite) -> None:
    config = replace(
        site.config, additional_packages=["bison"], more_buildreqs={"extended-1.0": ["patch"]}
    )
    package = site.source("extended", build="bison --version && patch --version")
    assert site.rebuild(package, config=replace(config, cleanup_on_success=False)).exit == 0
    # They are in the chroot, and stay there as long as it does.
    assert site.rebuild(package, config=replace(site.config, clean=False)).exit == 0
    assert site.rebuild(package).exit == 1


def test_a_chain_builds_on_its_own_packages(site: EngineSite) -> None:
    first = site.source("lower")
    second = site.source(
        "upper", head="BuildRequires: lower", build="grep lower /usr/share/lower/name"
    )
    ended = site.run("chain", first, second)
    assert ended.exit == 0, ended.stderr
    results = ended.results()
    assert "lower-1.0-1.lab1/lower-1.0-1.lab1.noarch.rpm" in results
    assert "upper-1.0-1.lab1/build.log" in results
    assert "upper-1.0-1.lab1/success" in results
    assert "repodata/repomd.xml" in results
    assert "Packages successfully built in this order:" in ended.stderr


@pytest.mark.slow
def test_a_chain_that_is_built_in_part(site: EngineSite) -> None:
    good, bad = site.source("good"), site.source("bad", build="exit 1")
    late = site.source("late", head="BuildRequires: good")
    stopped = site.run("chain", good, bad, late)
    assert stopped.exit == 4
    assert "late-1.0-1.lab1/build.log" not in stopped.results()
    going_on = site.run("chain", good, bad, late, chain_continue=True)
    assert going_on.exit == 4
    assert "late-1.0-1.lab1/late-1.0-1.lab1.noarch.rpm" in going_on.results()
    assert "bad-1.0-1.lab1/fail" in going_on.results()
    again = site.run("chain", late, good, chain_recurse=True)
    assert again.exit == 0, again.stderr


@pytest.mark.slow  # tests/integration has the same through `mock --remote`
def test_a_full_disk_is_not_a_failed_build(site: EngineSite, tmp_path: Path) -> None:
    package = site.source("large", build="dd if=/dev/zero of=large bs=1M count=200")
    with EngineNode(LAB, tmp_path / "node", mock_mib=64) as node:
        small = EngineSite(node, site.server, site.sources)
        ended = small.rebuild(package)
    assert ended.exit == 75
    assert ended.status["message"].startswith("no-space: ")


def test_a_test_for_a_full_device_is_a_failed_build(site: EngineSite) -> None:
    assert site.rebuild(site.source("devfull", build="echo x > /dev/full")).exit == 1
