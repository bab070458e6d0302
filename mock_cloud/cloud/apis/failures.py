# SPDX-License-Identifier: GPL-2.0-or-later
"""How calls to a cloud fail, as far as it matters what to do next."""

from __future__ import annotations

from mock_cloud.errors import CloudError, ConfigError


class CredentialsRefused(ConfigError):
    """The API does not accept who we are; the message names where the credentials came from."""


class NoCapacity(CloudError):
    """The API has no such node now: another offer may do."""


class QuotaReached(CloudError):
    """The account's own limit, by its name. No other offer helps, and neither does waiting."""

    retryable = False


class OutcomeUnknown(CloudError):
    """A call that changes something got no answer that tells whether it did."""


class CloudIsOut(CloudError):
    """The API could not be asked: nothing was done by this call."""
