# SPDX-License-Identifier: GPL-2.0-or-later
"""A plugin for kojid: packages of buildArch leave the builder only once they verify.

Installed in /usr/lib/koji-builder-plugins beside mock_cloud_hub.py, whose `verify` it uses, with
`plugins = mock_cloud_builder` in kojid.conf and /etc/kojid/plugins/mock_cloud.conf; see
docs/koji.md. The remote's file must have `write = "always"` in [provenance].

What mock left is verified after the build and before the first package is uploaded. If it is
refused, the task fails, and none is. Provenance and evidence stay at the hub, among the logs.
"""

import os

import koji
import koji.plugin

from __main__ import BuildArchTask

CONFIG_FILE = "/etc/kojid/plugins/mock_cloud.conf"
ABOUT_PACKAGES = ("remote_provenance.json", "remote_evidence.zip")

_hub = koji.plugin.PluginTracker(path=os.path.dirname(os.path.abspath(__file__))).load(
    "mock_cloud_hub"
)


class VerifiedBuildArchTask(BuildArchTask):
    """In the place of kojid's own, whose packages are uploaded one by one once mock has ended."""

    verified = None

    def uploadFile(self, filename, *args, **kws):  # noqa: N802  koji's name
        if filename.endswith(".rpm") and self.verified is None:
            place = os.path.dirname(filename)
            _hub.CONFIG_FILE = CONFIG_FILE
            why = _hub.verify(place)
            if why:
                raise koji.BuildError("mock-cloud refuses the packages: " + why)
            self.verified = place
        return BuildArchTask.uploadFile(self, filename, *args, **kws)

    def handler(self, *args, **kws):
        found = BuildArchTask.handler(self, *args, **kws)
        if self.verified is not None:
            for name in ABOUT_PACKAGES:
                path = os.path.join(self.verified, name)
                if os.path.exists(path):
                    self.uploadFile(path)
                    found["logs"].append("%s/%s" % (self.getUploadDir(), name))
        return found
