# SPDX-License-Identifier: GPL-2.0-or-later
"""Where AWS keys come from: the remote's file, the environment, the files of AWS's own tools.

Plain keys are read here: it takes two INI files, and botocore is 12 MiB. All other ways (single
sign-on, roles, processes, an instance's profile) are botocore's where it is installed; where it is
not, the message names what was found, and the way around.
"""

from __future__ import annotations

import configparser
import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from mock_cloud import places
from mock_cloud.cloud.apis.texts import one_line
from mock_cloud.errors import ConfigError
from mock_cloud.model import Secret
from mock_cloud.settings import Ec2Settings
from mock_cloud.wire.dataclass import dataclass

_INDIRECT: Final = (
    "sso_session", "sso_start_url", "role_arn", "credential_process", "web_identity_token_file",
)  # fmt: skip
_EXPORT: Final = (
    "install botocore where mock-cloud is, which reads that; or"
    ' eval "$(aws configure export-credentials --format env{})" gives keys for a while'
)
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
    file names a profile; the profile in ~/.aws; whatever else botocore knows. ConfigError, never
    with a key's text. What is asked for keys then (a program, an API) is given botocore's time.
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
    wanted = settings.profile or environment.get("AWS_PROFILE") or None
    return _from_profile(wanted or "default", *_files(environment, home), wanted)


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


def _from_profile(profile: str, credentials: Path, config: Path, wanted: str | None) -> AwsKeys:
    """The credentials file wins over the config file, where a section is ``profile NAME``.

    `wanted` is the profile if somebody named it. One that leads to keys elsewhere is followed by
    botocore before plain keys count that stand there too: they are for the way.
    """
    in_config = profile if profile == "default" else f"profile {profile}"
    plain: list[AwsKeys] = []
    problems, indirect = [], ""
    for path, section in ((credentials, profile), (config, in_config)):
        values = _read_section(path, section)
        if values is None:
            continue
        key_id, secret = (
            values.get(name, "") for name in ("aws_access_key_id", "aws_secret_access_key")
        )
        if key_id and secret:
            token = Secret(values.get("aws_session_token", "").encode())
            plain.append(AwsKeys(key_id, Secret(secret.encode()), token, f"{path} [{section}]"))
        ways = [name for name in _INDIRECT if name in values]
        if ways and not indirect:
            indirect = f"{path} [{section}] gives keys by {ways[0]}, which is not read here"
        problems.append(f"{path} [{section}] has no keys")
    found = None if plain and not indirect else _ask_botocore(wanted, credentials, config)
    for keys in (found, *plain):
        if keys is not None:
            return keys
    if indirect:
        option = "" if profile == "default" else f" --profile {profile}"
        raise ConfigError(indirect, hint=_EXPORT.format(option))
    if not problems:
        problems.append(f"no profile {profile!r} in {credentials} or {config}")
    raise ConfigError(
        f"no AWS credentials: {'; '.join(problems)}, and none in AWS_ACCESS_KEY_ID",
        hint="aws configure writes them; or set profile in [ec2] of the remote's file",
    )


def _ask_botocore(profile: str | None, credentials: Path, config: Path) -> AwsKeys | None:
    """Keys as AWS's own tools find them; None without botocore, and where it finds none.

    Those of a role or a session end after an hour or so: who is refused then asks again.
    """
    try:
        session_module = importlib.import_module("botocore.session")
        errors = importlib.import_module("botocore.exceptions")
    except ImportError:
        return None
    try:
        session = session_module.Session(profile=profile)
        session.set_config_variable("credentials_file", str(credentials))
        session.set_config_variable("config_file", str(config))
        found = session.get_credentials()
        keys = None if found is None else found.get_frozen_credentials()
    except errors.ProfileNotFound:
        return None
    except (errors.BotoCoreError, errors.ClientError, OSError, ValueError) as error:
        # What a credential_process says may have a key in it.
        is_programs = isinstance(error, errors.CredentialRetrievalError)
        why = "its program failed" if is_programs else one_line(str(error))
        where = f"profile {profile!r}" if profile else "its default profile"
        problem = ConfigError(
            f"no AWS credentials: {where}, as botocore reads it: {why}",
            hint="aws sts get-caller-identity asks for the same keys; aws sso login renews them",
        )
    else:
        if keys is None or found is None:
            return None
        return AwsKeys(
            keys.access_key,
            Secret(keys.secret_key.encode()),
            Secret((keys.token or "").encode()),
            f"{found.method}, by botocore",
        )
    raise problem


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
