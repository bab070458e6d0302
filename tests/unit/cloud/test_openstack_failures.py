# SPDX-License-Identifier: GPL-2.0-or-later
import pytest

from mock_cloud.cloud.apis.calls import Diagnosis, Trouble
from mock_cloud.cloud.apis.openstack_failures import OpenStackClassifier
from mock_cloud.cloud.apis.texts import CredentialsRefused, NoCapacity, NotThere, QuotaReached
from mock_cloud.errors import ConfigError, MockCloudError


def judge(status: int, text: str) -> Trouble | MockCloudError:
    trouble = Trouble.UNANSWERED if status >= 500 else Trouble.REFUSED
    diagnosis = Diagnosis(trouble, text, status=status, is_credentials=status == 401)
    return OpenStackClassifier("OpenStack at x", "cloud 'x' of /p")(diagnosis)


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        (401, "401 Unauthorized", CredentialsRefused),
        (403, "403 Forbidden Quota exceeded for instances: Requested 1", QuotaReached),
        (409, "409 Conflict Quota exceeded for resources: ['floatingip'].", QuotaReached),
        (413, "413 Quota exceeded for cores", QuotaReached),
        (500, "500 No valid host was found.", NoCapacity),
        (404, "404 Not Found Instance could not be found", NotThere),
        (400, "400 Bad Request Invalid imageRef provided.", ConfigError),
        (403, "403 Forbidden Policy doesn't allow", ConfigError),
    ],
)
def test_refusals(status: int, text: str, kind: type[MockCloudError]) -> None:
    found = judge(status, text)
    assert type(found) is kind
    assert "OpenStack at x" in found.message
    assert status != 401 or "cloud 'x' of /p" in found.message


@pytest.mark.parametrize(
    ("status", "trouble"),
    [(413, Trouble.THROTTLED), (409, Trouble.REFUSED), (502, Trouble.UNANSWERED)],
)
def test_what_may_pass(status: int, trouble: Trouble) -> None:
    assert judge(status, "something") is trouble
