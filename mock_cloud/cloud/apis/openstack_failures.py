# SPDX-License-Identifier: GPL-2.0-or-later
"""What the refusals of OpenStack's services mean (API guide, "Faults")."""

from __future__ import annotations

from mock_cloud.cloud.apis.calls import Diagnosis, Judge, Trouble, refuse_credentials
from mock_cloud.cloud.apis.failures import NoCapacity, QuotaReached
from mock_cloud.cloud.apis.openstack_servers import NO_HOST
from mock_cloud.errors import CloudError, ConfigError, MockCloudError


class NotThere(CloudError):
    """The service does not know what the path names."""


def judge_for(service: str, source: str) -> Judge:
    """The judge of a service whose credentials are from `source`."""

    def judge(diagnosis: Diagnosis) -> Trouble | MockCloudError:
        if diagnosis.is_credentials:
            return refuse_credentials(diagnosis, service, source)
        return _meaning(diagnosis, f"{service}: {diagnosis.text}", source)

    return judge


def _meaning(diagnosis: Diagnosis, text: str, source: str) -> Trouble | MockCloudError:
    lowered = diagnosis.text.lower()
    # Nova says 403, Neutron 409, Rackspace 413.
    if diagnosis.status in (403, 409, 413) and ("quota" in lowered or "exceeds" in lowered):
        return QuotaReached(
            text, hint="mock-cloud nodes shows what is running; the cloud's owner sets quotas"
        )
    if NO_HOST in lowered:
        return NoCapacity(text)
    if diagnosis.status == 404:
        return NotThere(text)
    if diagnosis.status in (400, 403):
        return ConfigError(text, hint=f"see image, size, zone and network, and {source}")
    return Trouble.THROTTLED if diagnosis.status == 413 else diagnosis.trouble
