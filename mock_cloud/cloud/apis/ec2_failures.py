# SPDX-License-Identifier: GPL-2.0-or-later
"""What EC2's error codes mean for a lease (Amazon EC2 API reference, "Error codes")."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mock_cloud.cloud.apis.calls import Classify, Diagnosis, FailureKind, refuse_credentials
from mock_cloud.cloud.apis.texts import CredentialsRefused, NoCapacity, NotThere, QuotaReached
from mock_cloud.errors import CloudError, ConfigError, MockCloudError

_THROTTLED: Final = frozenset(
    {"RequestLimitExceeded", "Throttling", "ThrottlingException", "EC2ThrottledException"}
)
# Answered with status 500 and 503 as well as 400, and final all the same.
_NO_CAPACITY: Final = frozenset(
    {
        "InsufficientInstanceCapacity",
        "InsufficientHostCapacity",
        "InsufficientReservedInstanceCapacity",
        "InsufficientCapacity",
        "InsufficientFreeAddressesInSubnet",
        "InsufficientVolumeCapacity",
        "MaxSpotInstanceCountExceeded",  # on demand is counted apart
        "SpotMaxPriceTooLow",
        "Unsupported",  # that size is not sold in that zone
    }
)
_CREDENTIALS: Final = frozenset(
    {
        "AuthFailure",
        "Blocked",
        "ExpiredToken",
        "IncompleteSignature",
        "InvalidClientTokenId",
        "MissingAuthenticationToken",
        "OptInRequired",
        "PendingVerification",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_BY_FAMILY: Final = frozenset({"VcpuLimitExceeded", "InstanceLimitExceeded"})
"""Limits of a family of sizes, counted in vCPUs, and of on-demand and spot apart."""
_IN_USE: Final = frozenset(
    {"VolumeInUse", "DependencyViolation", "InvalidNetworkInterface.InUse", "InvalidSnapshot.InUse"}
)


_ENCODED: Final = re.compile(r"\s*Encoded authorization failure.*", re.DOTALL)
"""For `aws sts decode-authorization-message`: some thousand characters after the words."""


class WouldSucceed(CloudError):
    """The answer to a dry run of what the account may do."""


class InUse(CloudError):
    """The resource can't be removed while another one needs it."""


def make_classifier(service: str, source: Callable[[], str], remote_file: Path) -> Classify:
    """EC2's classifier. `source` says where the credentials of the last request came from."""

    def classify(diagnosis: Diagnosis) -> FailureKind | MockCloudError:
        if diagnosis.code in _THROTTLED:
            return FailureKind.THROTTLED
        if diagnosis.is_credentials or diagnosis.code in _CREDENTIALS:
            return refuse_credentials(diagnosis, service, source())
        if diagnosis.code == "UnauthorizedOperation":
            return CredentialsRefused(
                f"{service} does not let the credentials from {source()} do this:"
                f" {_ENCODED.sub('', diagnosis.text)}",
                hint="an IAM policy with all rights that are needed is in docs/cloud-admin.md",
            )
        text = f"{service}: {diagnosis.text}"
        if diagnosis.code == "DryRunOperation":
            return WouldSucceed(text)
        return _find_error(diagnosis.code, text, remote_file) or diagnosis.trouble

    return classify


def _find_error(code: str, text: str, remote_file: Path) -> MockCloudError | None:
    if code in _NO_CAPACITY:
        return NoCapacity(text)
    if code.endswith(("LimitExceeded", "LimitsExceeded", "QuotaExceeded")):
        return QuotaReached(
            text,
            hint="ask for more in AWS's Service Quotas, or end nodes",
            is_of_size=code in _BY_FAMILY,
        )
    if code in _IN_USE:
        return InUse(text)
    if code.endswith(".NotFound") or code == "InvalidInstanceID.Malformed":
        return NotThere(text)
    if code.startswith(("Invalid", "Missing", "Unknown")):
        return ConfigError(text, hint=f"see [ec2] and [node.ARCH] in {remote_file}")
    return None
