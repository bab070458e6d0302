# SPDX-License-Identifier: GPL-2.0-or-later
"""A Koji builder: kojid's own task code, a hub that records, and mock where kojid looks for it.

MOCK_CLOUD_TEST_KOJI names a checkout of koji, MOCK_CLOUD_TEST_KOJI_PYTHON the Python that has what
its builder/kojid and kojihub import; without it one is made.
"""

from __future__ import annotations

import base64
import functools
import grp
import itertools
import json
import os
import pwd
import shlex
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mock_cloud.process import run
from tests.lab import own
from tests.lab.layout import Lab, LabError, locked
from tests.real_koji import programs

TAG, REPO_ID = "lab-build", 3
_EVENT = 100
_TIMEOUT_S = 900.0  # of what hangs; how long it takes says how busy the machine is
_BUILDROOTS = itertools.count(7)
_DRIVER = Path(__file__).with_name("koji_driver.py")


def find_checkout() -> tuple[Path, str]:
    """koji's checkout and its Python; skips the test where there is none."""
    named = os.environ.get("MOCK_CLOUD_TEST_KOJI")
    if not named:
        pytest.skip("needs a checkout of koji: set MOCK_CLOUD_TEST_KOJI")
    return Path(named), os.environ.get("MOCK_CLOUD_TEST_KOJI_PYTHON") or _make_python()


@functools.cache
def _make_python() -> str:
    """As that of `make test-koji`; skips the test where it cannot be had."""
    try:
        with locked(Lab(programs.state_directory())):
            return str(programs.make_hub_python() / "bin/python")
    except LabError as error:
        pytest.skip(f"what koji imports cannot be installed: {error}")


@dataclass(frozen=True)
class Report:
    """What a task did: its result or error, each call of the hub, each file uploaded."""

    raw: dict[str, Any]
    stderr: str

    @property
    def result(self) -> dict[str, Any]:
        found = self.raw.get("result")
        said = self.file("mock_output.log") if "mock_output.log" in self.files else ""
        assert isinstance(found, dict), f"{self.raw.get('trace')}\n{self.stderr}\n{said}"
        return found

    @property
    def error(self) -> str:
        return str(self.raw.get("error", ""))

    @property
    def shrunk(self) -> set[str]:
        """Logs that were uploaded anew from their beginning, with other content."""
        return set(self.raw["shrunk"])

    def calls(self, name: str) -> list[list[Any]]:
        return [args for called, args, _ in self.raw["calls"] if called == name]

    def file(self, name: str) -> str:
        return base64.b64decode(self.raw["files"][name]).decode(errors="replace")

    @property
    def files(self) -> set[str]:
        return set(self.raw["files"])


@dataclass(frozen=True)
class Builder:
    """`place` has etc (for /etc/mock), lib (kojid's mockdir), top (the hub's files).

    `mock` is what stands at /usr/bin/mock.
    """

    place: Path
    mock: Path
    user: pwd.struct_passwd
    url: str

    @property
    def arch(self) -> str:
        return os.uname().machine

    def order(self, method: str, params: list[Any], **more: Any) -> dict[str, Any]:
        arch = self.arch
        config = {
            "id": 5, "name": TAG, "arches": arch,
            "extra": {"mock.use_bootstrap": False, "mock.package_manager": "dnf4"},
        }  # fmt: skip
        answers = {
            "repoInfo": {"id": REPO_ID, "create_event": _EVENT, "tag_id": 5, "tag_name": TAG,
                         "state": 1},
            "getBuildConfig": config,
            "getTag": {"id": 5, "name": TAG},
            "getTaskInfo": {"arch": arch},
            "getChannel": {"name": "default"},
            "getExternalRepoList": [],
            "host.getHost": {"name": "here", "arches": f"{arch} noarch"},
            "host.newBuildRoot": next(_BUILDROOTS),
        }  # fmt: skip
        return {"method": method, "params": params, "answers": answers, **more}

    def buildroot(self, order: dict[str, Any]) -> Path:
        """The directory of the order's buildroot, which has a name that is never used again."""
        return self.place / "lib" / f"{TAG}-{order['answers']['host.newBuildRoot']}-{REPO_ID}"

    def run(self, order: dict[str, Any]) -> Report:
        """Let kojid's code work on `order`, as root and without a terminal."""
        checkout, python = find_checkout()
        name = f"{order['method']}-{order['answers']['host.newBuildRoot']}"
        order_file, report = self.place / f"{name}.order", self.place / f"{name}.report"
        order_file.write_text(json.dumps(order))
        conf = self._write_conf(name)
        driver = [python, str(_DRIVER), str(checkout), str(conf), str(order_file), str(report)]
        done = subprocess.run(
            ["unshare", "--mount", "--propagation", "private", "sh", "-ec", self._mounts(driver)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            # A service's: neither a home nor a user.
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
            timeout=_TIMEOUT_S,
            check=False,
        )
        stderr = done.stderr.decode(errors="replace")
        assert done.returncode == 0, stderr
        return Report(json.loads(report.read_text()), stderr)

    def _mounts(self, driver: list[str]) -> str:
        lower = self.place / "usr-bin"
        lower.mkdir(exist_ok=True)
        mock = lower / "mock"
        mock.unlink(missing_ok=True)
        os.link(self.mock, mock)
        (self.place / "no-home").mkdir(exist_ok=True)
        lines = [
            # kojibuilder has none that could be written to.
            f"mount --bind {self.place}/no-home {self.user.pw_dir}",
            *self._mount_points(),
            f"mount --bind {self.place}/lib /var/lib/mock",
            f"mount -t overlay -o ro,lowerdir={lower}:/usr/bin mock-cloud-test /usr/bin",
            f"mount --bind {self.place}/etc /etc/mock",
            *(f"mount --bind {path} /etc/sudoers" for path in self.place.glob("sudoers")),
            shlex.join(["exec", *driver]),
        ]
        return "\n".join(lines)

    def _mount_points(self) -> list[str]:
        """Commands that lay what a machine without mock does not have over its directories."""
        lines = []
        for point in (Path("/etc/mock"), Path("/var/lib/mock")):
            if not point.is_dir():
                layer = self.place / "points" / point.parent.name
                for name in ("upper/mock", "work"):
                    (layer / name).mkdir(parents=True, exist_ok=True)
                over = f"lowerdir={point.parent},upperdir={layer}/upper,workdir={layer}/work"
                lines.append(f"mount -t overlay -o {over} mock-cloud-test {point.parent}")
        return lines

    def _write_conf(self, name: str) -> Path:
        path = self.place / f"{name}.conf"
        path.write_text(
            "[kojid]\n"
            "server = http://127.0.0.1:1/kojihub\n"
            f"topurl = {self.url}\n"
            f"topdir = {self.place / 'top'}\n"
            f"mockuser = {self.user.pw_name}\n"
            f"workdir = {self.place / 'work' / name}\n"
            "packager = Lab\nvendor = Lab\ndistribution = Lab\nminspace = 1\n"
            "allowed_scms = *:*:no:touch,fetched\n"
            "use_fast_upload = no\n"
        )
        return path


def make(place: Path, mock: Path, user: pwd.struct_passwd, url: str) -> Builder:
    """The directories of a builder in `place`, whose etc is there already."""
    (place / "etc/koji").mkdir()
    (place / "lib").mkdir(exist_ok=True)
    os.chown(place / "lib", 0, grp.getgrnam("mock").gr_gid)
    (place / "lib").chmod(0o2775)
    return Builder(place, mock, user, url)


def make_hub_files(lab: Lab, top: Path, group: Iterable[str]) -> None:
    """A Koji repository of the lab's packages, and the list of them that goes with it."""
    repository = top / "repos" / TAG / str(REPO_ID) / lab.arch
    repository.mkdir(parents=True)
    packages = sorted((lab.dist / "1").glob("*.rpm"))
    for package in packages:
        shutil.copy(package, repository)
    text = own.comps_xml(group)
    srpm_build = text[text.index("<group>") : text.index("</group>") + 8]
    srpm_build = srpm_build.replace("<id>build<", "<id>srpm-build<")
    comps = top / "comps.xml"
    comps.write_text(text.replace("</comps>", f"{srpm_build}</comps>"))
    run(["createrepo_c", "--quiet", "--groupfile", str(comps), str(repository)], timeout_s=600)
    keys = ("name", "version", "release", "arch", "payloadhash")
    form = "%{name} %{version} %{release} %{arch} %{sigmd5}\n"
    listed = run(["rpm", "-qp", "--nosignature", "--qf", form, *map(str, packages)], timeout_s=600)
    rows = (dict(zip(keys, line.split(), strict=True)) for line in listed.decode().splitlines())
    lines = [json.dumps({**row, "id": 1}) + "\n" for row in rows]
    (repository / "rpmlist.jsonl").write_text("".join(lines))
