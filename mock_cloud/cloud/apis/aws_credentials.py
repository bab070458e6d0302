# SPDX-License-Identifier: GPL-2.0-or-later
"""Where AWS keys come from: the remote's file, the environment, the files of AWS's own tools.

An own reader instead of botocore: that is 12 MiB for what is two INI files here. What it
does not read (single sign-on, roles, processes) is named in the message, with the way around.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mock_cloud import places
from mock_cloud.errors import ConfigError
from mock_cloud.model import Secret
from mock_cloud.settings import Ec2Settings

_INDIRECT: Final = ("sso_session", "sso_start_url", "role_arn", "credential_process")
_EXPORT: Final = 'eval "$(aws configure export-credentials --format env{})" gives keys for a while'
_SIZE_LIMIT: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class AwsKeys:
    """One set of keys. `source` says where they came from, for messages. `token` may be empty."""

    key_id: str
    secret: Secret
    token: Secret
    source: str

    def is_same(self, other: AwsKeys) -> bool:
        """Whether they are the same keys, wherever they came from."""
        mine, theirs = (
            (keys.key_id, keys.secret.reveal(), keys.token.reveal()) for keys in (self, other)
        )
        return mine == theirs


def find_keys(
    settings: Ec2Settings,
    remote_file: Path,
    *,
    environment: Mapping[str, str] = os.environ,
    home: Path | None = None,
) -> AwsKeys:
    """The keys that count now: files are read each time, since tokens in them are renewed.

    In this order: the remote's file; AWS_ACCESS_KEY_ID and its companions, unless the remote's
    file names a profile; the profile in ~/.aws. ConfigError, never with a key's text.
    """
    if settings.access_key_id or settings.secret_access_key is not None:
        if not settings.access_key_id or settings.secret_access_key is None:
            raise ConfigError(
                f"{remote_file}: [ec2] access_key_id and secret_access_key go together"
            )
        return AwsKeys(
            settings.access_key_id, settings.secret_access_key, Secret(b""), str(remote_file)
        )
    if not settings.profile and environment.get("AWS_ACCESS_KEY_ID"):
        return _from_environment(environment)
    profile = settings.profile or environment.get("AWS_PROFILE") or "default"
    return _from_profile(profile, *_files(environment, home))


def _from_environment(environment: Mapping[str, str]) -> AwsKeys:
    secret = environment.get("AWS_SECRET_ACCESS_KEY", "")
    if not secret:
        raise ConfigError("AWS_ACCESS_KEY_ID is set, and AWS_SECRET_ACCESS_KEY is not")
    token = environment.get("AWS_SESSION_TOKEN") or environment.get("AWS_SECURITY_TOKEN") or ""
    return AwsKeys(
        environment["AWS_ACCESS_KEY_ID"],
        Secret(secret.encode()),
        Secret(token.encode()),
        "the environment (AWS_ACCESS_KEY_ID)",
    )


def _files(environment: Mapping[str, str], home: Path | None) -> tuple[Path, Path]:
    place = (home or places.home()) / ".aws"
    credentials = environment.get("AWS_SHARED_CREDENTIALS_FILE") or place / "credentials"
    config = environment.get("AWS_CONFIG_FILE") or place / "config"
    return Path(credentials).expanduser(), Path(config).expanduser()


def _from_profile(profile: str, credentials: Path, config: Path) -> AwsKeys:
    """The credentials file wins over the config file, where a section is ``profile NAME``."""
    in_config = profile if profile == "default" else f"profile {profile}"
    problems = []
    for path, section in ((credentials, profile), (config, in_config)):
        values = _read_section(path, section)
        if values is None:
            continue
        key_id, secret = (
            values.get(name, "") for name in ("aws_access_key_id", "aws_secret_access_key")
        )
        if key_id and secret:
            token = Secret(values.get("aws_session_token", "").encode())
            return AwsKeys(key_id, Secret(secret.encode()), token, f"{path} [{section}]")
        indirect = [name for name in _INDIRECT if name in values]
        if indirect:
            option = "" if profile == "default" else f" --profile {profile}"
            raise ConfigError(
                f"{path} [{section}] gives keys by {indirect[0]}, which is not read here",
                hint=_EXPORT.format(option),
            )
        problems.append(f"{path} [{section}] has no keys")
    if not problems:
        problems.append(f"no profile {profile!r} in {credentials} or {config}")
    raise ConfigError(
        f"no AWS credentials: {'; '.join(problems)}, and none in AWS_ACCESS_KEY_ID",
        hint="aws configure writes them; or set profile in [ec2] of the remote's file",
    )


def _read_section(path: Path, section: str) -> Mapping[str, str] | None:
    # Without interpolation: a secret key may hold a percent sign.
    parser = configparser.RawConfigParser(strict=False)
    try:
        with path.open("rb") as stream:
            text = stream.read(_SIZE_LIMIT).decode()
        parser.read_string(text)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (UnicodeDecodeError, configparser.Error):
        # The parser's own message quotes the line, and that may be a secret.
        problem = ConfigError(f"{path} is not an INI file as AWS's tools write it")
    else:
        return dict(parser[section]) if parser.has_section(section) else None
    raise problem
