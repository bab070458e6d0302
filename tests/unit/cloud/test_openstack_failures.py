# SPDX-License-Identifier: GPL-2.0-or-later
import pytest

from mock_cloud.cloud.apis.calls import Diagnosis, FailureKind
from mock_cloud.cloud.apis.openstack_failures import OpenStackClassifier
from mock_cloud.cloud.apis.texts import CredentialsRefused, NoCapacity, NotThere, QuotaReached
from mock_cloud.errors import ConfigError, MockCloudError


def judge(status: int, text: str) -> FailureKind | MockCloudError:
    trouble = FailureKind.UNANSWERED if status >= 500 else FailureKind.REFUSED
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
    [(413, FailureKind.THROTTLED), (409, FailureKind.REFUSED), (502, FailureKind.UNANSWERED)],
)
def test_what_may_pass(status: int, trouble: FailureKind) -> None:
    assert judge(status, "something") is trouble


@pytest.mark.parametrize(
    ("status", "text", "is_of_size"),
    [
        # As Nova 26 and Neutron 21 say it.
        (403, "Maximum number of ports exceeded", False),
        (403, "Quota exceeded for cores: Requested 4000, but already used 0 of 20 cores", True),
        (403, "Quota exceeded for ram: Requested 8192, but already used 0 of 512 ram", True),
        (403, "Quota exceeded for instances: Requested 1, but already used 10 of 10", False),
        (403, "Quota exceeded for cores, instances: Requested 4, 1", True),
        (409, "Quota exceeded for resources: ['floatingip'].", False),
        (413, "VolumeSizeExceedsAvailableQuota: Requested volume exceeds gigabytes quota", True),
    ],
)
def test_a_quota_of_sizes_leaves_smaller_ones(status: int, text: str, is_of_size: bool) -> None:
    found = judge(status, text)
    assert isinstance(found, QuotaReached)
    assert found.is_of_size == is_of_size


@pytest.mark.parametrize(
    ("status", "text", "hint"),
    [
        (
            409,
            "Multiple possible networks found, use a Network ID to be more specific.",
            "networks",
        ),
        (403, "Only volume-backed servers are allowed for flavors with zero disk.", "volume_gib"),
        (400, "Invalid input for field/attribute imageRef. Value: lab-stock.", "name:PATTERN"),
    ],
)
def test_where_a_cause_is_mended(status: int, text: str, hint: str) -> None:
    found = judge(status, text)
    assert isinstance(found, ConfigError)
    assert hint in str(found.hint)


def test_user_data_that_nova_quotes_is_not_shown() -> None:
    quoted = "eHh4" * 50
    found = judge(400, f"Invalid input for field/attribute user_data. Value: {quoted}")
    assert isinstance(found, ConfigError)
    assert "user_data" in found.message and "eHh4" not in found.message


def test_an_authority_of_ones_own() -> None:
    diagnosis = Diagnosis(FailureKind.REFUSED, "its TLS certificate …", is_certificate=True)
    found = OpenStackClassifier("OpenStack at x", "cloud 'x' of /p")(diagnosis)
    assert isinstance(found, MockCloudError)
    assert "cacert in cloud 'x' of /p" in str(found.hint)
