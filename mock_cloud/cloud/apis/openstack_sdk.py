# SPDX-License-Identifier: GPL-2.0-or-later
"""Credentials for OpenStack by openstacksdk and keystoneauth, where they are installed.

They know all types of authentication, the profiles of known clouds and tables of regions: see
decision 130. They are asked for a token and the catalog; requests are libcloud's, as everywhere.
"""
# mypy: disallow-untyped-calls=False
# libcloud's OpenStack classes have no types yet.

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

from mock_cloud import __version__
from mock_cloud.cloud.apis.clouds_yaml import CloudEntry
from mock_cloud.cloud.apis.texts import one_line
from mock_cloud.errors import ConfigError

T = TypeVar("T")
_ODD: Final = (ImportError, TypeError, ValueError, LookupError, AttributeError)
"""What openstacksdk lets through of entries that it does not expect."""


def load_by_sdk(entry: CloudEntry, region: str) -> Any | None:
    """openstacksdk's CloudRegion of an entry, with its plugin; None if it is not installed.

    Only the files that the entry is from are read, so never those of the current directory.
    ConfigError.
    """
    try:
        config = importlib.import_module("openstack.config")
        keystoneauth_error, sdk_error = _errors()
    except ImportError:
        return None
    is_file = entry.file is not None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of keys that are said to be old
            known = config.OpenStackConfig(
                config_files=[str(entry.file)] if entry.file else [],
                secure_files=[str(entry.secure)] if entry.secure else [],
                vendor_files=[str(entry.vendors)] if entry.vendors else [],
                load_yaml_config=is_file,
                load_envvars=not is_file,
                app_name="mock-cloud",
                app_version=__version__,
            )
            return known.get_one(entry.name or None, region_name=region or None)
    except (keystoneauth_error, sdk_error, *_ODD) as error:
        raise _refused(entry.source, error) from None  # it may quote the entry


class SdkTokens:
    """See `TokenSource`. `source` is for messages, `timeout_s` for each request."""

    def __init__(self, sdk: Any, source: str, timeout_s: float) -> None:
        self._source = source
        self._session = sdk.get_session()
        self._session.timeout = timeout_s

    def token(self) -> str:
        """See `TokenSource`. keystoneauth renews it shortly before its end."""
        found = self._translating(self._session.get_token)
        if not found:
            raise ConfigError(f"{self._source}: this auth_type gives no token")
        return str(found)

    def catalog(self) -> Any:
        """See `TokenSource`."""
        from libcloud.common.openstack_identity import OpenStackServiceCatalog

        access = self._translating(lambda: self._session.auth.get_access(self._session))
        is_v2 = getattr(access, "version", "") == "v2.0"
        return OpenStackServiceCatalog(
            access.service_catalog.catalog, "2.0_password" if is_v2 else "3.x_password"
        )

    def clear_cached_auth_context(self) -> None:
        """See `TokenSource`."""
        self._session.invalidate()

    def _translating(self, ask: Callable[[], T]) -> T:
        """What `ask` returns; keystoneauth's failures as those that `calls.diagnose` knows."""
        from libcloud.common.exceptions import BaseHTTPError
        from libcloud.common.types import InvalidCredsError

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return ask()
        except _errors() as error:
            problem: Exception = _refused(self._source, error)
            status = int(getattr(error, "http_status", 0) or 0)
            if status in (401, 404):
                problem = InvalidCredsError(one_line(str(error)))
            elif status:
                problem = BaseHTTPError(status, one_line(str(error)))
            # requests' own errors tell a name that is not found from an answer that did not come.
            problem = next((one for one in _reasons(error) if isinstance(one, OSError)), problem)
        except AttributeError:
            problem = ConfigError(f"{self._source}: this auth_type has no catalog of services")
        raise problem


def _errors() -> tuple[type[Exception], type[Exception]]:
    """The root classes of keystoneauth's failures and of openstacksdk's."""
    return (
        importlib.import_module("keystoneauth1.exceptions").ClientException,
        importlib.import_module("openstack.exceptions").SDKException,
    )


def _refused(source: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"{source}, as openstacksdk reads it: {one_line(str(error))}",
        hint="openstack token issue asks for a token in the same way",
    )


def _reasons(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
