# SPDX-License-Identifier: GPL-2.0-or-later
"""Which remote an invocation runs on, if any."""

from __future__ import annotations

from mock_cloud.config.defaults import ConfigOpts
from mock_cloud.config.values import read_option
from mock_cloud.errors import ConfigError
from mock_cloud.invocation.model import CommandLine


def choose_remote(line: CommandLine, opts: ConfigOpts | None) -> str | None:
    """The name of the remote to use, or None to run on this machine.

    `--no-remote` wins; then `--remote`, `MOCK_REMOTE`, `config_opts['remote']`, for which
    `load_config_opts` has already decided between chroot, user and site configuration. None
    or False there means this machine. `opts` None: no configuration could be read.
    ConfigError when the setting is not a name.
    """
    if line.no_remote:
        return None
    if line.remote or line.environ_remote:
        return line.remote or line.environ_remote
    if opts is None:
        return None
    value = read_option(opts, "remote")
    if value is None or value is False or value == "":
        return None
    if not isinstance(value, str):
        raise ConfigError(f"config_opts['remote'] is {value!r}, not a remote's name")
    return value
