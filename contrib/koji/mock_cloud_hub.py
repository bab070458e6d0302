# SPDX-License-Identifier: GPL-2.0-or-later
"""A plugin for Koji's hub: what content generators of mock-cloud import is verified first.

Installed in /usr/lib/koji-hub-plugins, with `Plugins = mock_cloud_hub` in hub.conf and
/etc/koji-hub/plugins/mock_cloud.conf; see docs/koji.md. It runs under the hub's own Python and
starts `mock-cloud verify`, which need not be of that Python.

- An import of one of the `generators` is refused unless its files verify (callback preImport).
- The policy test `mock_cloud_verified` says the same of a build that is there, by its files.
"""

import configparser
import logging
import os
import shutil
import subprocess
import tempfile

import koji
import koji.policy
from koji.plugin import callback

CONFIG_FILE = "/etc/koji-hub/plugins/mock_cloud.conf"
TIMEOUT_S = 600
_LOGS = os.path.join("data", "logs")
_NOT_OURS = ("cg_import.log",)
_config = None


def _settings():
    global _config  # noqa: PLW0603
    if _config is None:
        parser = configparser.ConfigParser()
        if not parser.read(CONFIG_FILE):
            raise koji.ConfigurationError("mock_cloud_hub: no configuration in " + CONFIG_FILE)
        _config = parser["mock_cloud"]
    return _config


def verify(directory):
    """Why the results in `directory` are refused; empty if they are verified.

    Whatever hinders the verification refuses them.
    """
    settings = _settings()
    argv = [settings.get("command", "mock-cloud"), "verify", directory]
    for key in settings.get("keys", "").split():
        argv += ["--keys", key]
    if settings.get("policy"):
        argv += ["--policy", settings["policy"]]
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return "mock-cloud verify: %s" % error
    if done.returncode == 0:
        return ""
    said = done.stdout.decode("utf-8", "replace").strip() or "no output"
    return "exit status %d: %s" % (done.returncode, said[:2000])


@callback("preImport")
def refuse_unverified(cbtype, *args, **kws):
    """Raises for an import of a content generator of ours whose files do not verify."""
    if kws.get("type") != "cg":
        return
    ours = set(_settings().get("generators", "mock-cloud").split())
    names = {one["content_generator"]["name"] for one in kws["metadata"]["buildroots"]}
    if not names & ours:
        return
    upload = os.path.join(koji.pathinfo.work(), kws["directory"])
    why = verify(upload)
    if why:
        raise koji.GenericError("mock-cloud refuses the import: " + why)


class MockCloudVerifiedTest(koji.policy.BaseSimpleTest):
    """mock_cloud_verified: the build's files verify, as they are now."""

    name = "mock_cloud_verified"

    def run(self, data):
        from kojihub import get_build

        if not data.get("build"):
            return False
        build = get_build(data["build"], strict=True)
        place = koji.pathinfo.build(build)
        if not os.path.isdir(place):
            return False
        # Beside the builds, so that links will do.
        with tempfile.TemporaryDirectory(prefix="mock-cloud-", dir=koji.pathinfo.work()) as scratch:
            try:
                _lay_out(place, scratch)
            except OSError:
                logging.getLogger("koji.plugin.mock_cloud").exception("cannot lay out %s", place)
                return False
            why = verify(scratch)
        if why:
            logging.getLogger("koji.plugin.mock_cloud").warning("%s: %s", place, why)
        return not why


def _lay_out(place, scratch):
    """The build's files as they were built: Koji keeps packages by architecture, logs apart.

    Two files of one name, and what is no regular file, are OSErrors.
    """
    for directory, _, names in os.walk(place):
        below = os.path.relpath(directory, place)
        for name in names:
            if below == _LOGS or below.startswith(_LOGS + os.sep):
                into = os.path.relpath(below, _LOGS)
            elif name.endswith(".rpm") and os.sep not in below:
                into = ""
            else:
                continue  # Koji's own: metadata.json, signatures, packages with them
            if name in _NOT_OURS:
                continue
            target = os.path.normpath(os.path.join(scratch, into))
            os.makedirs(target, exist_ok=True)
            _link(os.path.join(directory, name), os.path.join(target, name))


def _link(source, target):
    if os.path.islink(source) or not os.path.isfile(source):
        raise OSError("%s is not a regular file" % source)
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:
        shutil.copyfile(source, target)
