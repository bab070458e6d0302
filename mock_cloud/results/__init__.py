# SPDX-License-Identifier: GPL-2.0-or-later
"""Local results: live logs, staging and names."""

from mock_cloud.results.livelog import LiveLog
from mock_cloud.results.manifest import ManifestEntry, check_manifest
from mock_cloud.results.names import check_name
from mock_cloud.results.resultdir import ResultDir
from mock_cloud.results.staging import StagedFile, Staging, remove_stale

__all__ = [
    "LiveLog",
    "ManifestEntry",
    "ResultDir",
    "StagedFile",
    "Staging",
    "check_manifest",
    "check_name",
    "remove_stale",
]
