# SPDX-License-Identifier: GPL-2.0-or-later
"""What mock prints about configurations: --debug-config, --list-chroots, --print-root-path."""

from __future__ import annotations

from pathlib import Path
from pprint import pformat

from mock_cloud.config.chroots import load_config_opts, user_home
from mock_cloud.config.defaults import ConfigOpts, default_config_opts
from mock_cloud.config.paths import locate_paths
from mock_cloud.config.values import read_option, read_text
from mock_cloud.errors import CommandLineError, ConfigError
from mock_cloud.wire.terminal_text import printable


def debug_config(opts: ConfigOpts, *, expanded: bool) -> str:
    """The options that differ from mock's defaults, as lines of a configuration file."""
    defaults = default_config_opts()
    jinja = opts["__jinja_expand"]
    # Raw values first: reading an expanded list or table changes it for good.
    opts["__jinja_expand"] = defaults["__jinja_expand"] = expanded
    lines = []
    for name in sorted(opts):
        own = read_option(opts, name)
        value = jinja if name == "__jinja_expand" else own
        if name not in defaults or own != defaults[name]:
            lines.append(f"config_opts['{name}'] = {pformat(value)}\n")
    opts["__jinja_expand"] = jinja
    return "".join(lines)


def list_chroots(config_path: Path, home: Path | None = None) -> str:
    """The chroot configurations of `config_path` and of the user, with their descriptions."""
    home = home if home is not None else user_home()
    special = {"site-defaults.cfg", "chroot-aliases.cfg"}
    lines = [f"{'config name':<34} description\n", "Global configs:\n"]
    for path in sorted(config_path.glob("*.cfg")):
        if path.name not in special:
            lines.append(_describe(path, config_path, home))
    own = sorted((home / ".config/mock").glob("*.cfg"))
    if own:
        lines += ["Custom configs:\n", *(_describe(path, config_path, home) for path in own)]
    return "".join(lines)


def _describe(path: Path, config_path: Path, home: Path) -> str:
    try:
        opts = load_config_opts(str(path), config_path, home=home)
        description = read_text(opts, "description")
    except (ConfigError, CommandLineError):
        description = "error during parsing the config file"
    return f"{path.stem:<34} {printable(description)}\n"


def root_path(opts: ConfigOpts) -> str:
    """What --print-root-path prints: the chroot's path with a slash at its end."""
    return f"{locate_paths(opts).rootdir}/"
