# SPDX-License-Identifier: GPL-2.0-or-later
"""Configuration: remotes from TOML, chroots from mock's .cfg files.

opts = load_config_opts(line.chroot, configdir)
apply_command_line(opts, line)
config, keys = engine_config(opts, line)
"""

from mock_cloud.config.arches import ArchitectureError, choose_arch
from mock_cloud.config.choice import choose_remote
from mock_cloud.config.chroots import MOCK_CONFIG_DIR, find_config_file, load_config_opts, user_home
from mock_cloud.config.defaults import ConfigOpts
from mock_cloud.config.engine import engine_config, shell_is_unprivileged
from mock_cloud.config.handover import Handover, parse_handover
from mock_cloud.config.mock_engine import MockConfig, mock_config, read_logging
from mock_cloud.config.overrides import apply_command_line
from mock_cloud.config.paths import Paths, chain_results, locate_paths
from mock_cloud.config.remotes import RemoteFile, list_remotes, load_remote, read_remote
from mock_cloud.config.show import debug_config, list_chroots, root_path
from mock_cloud.config.stages import is_needless

__all__ = [
    "MOCK_CONFIG_DIR",
    "ArchitectureError",
    "ConfigOpts",
    "Handover",
    "MockConfig",
    "Paths",
    "RemoteFile",
    "apply_command_line",
    "chain_results",
    "choose_arch",
    "choose_remote",
    "debug_config",
    "engine_config",
    "find_config_file",
    "is_needless",
    "list_chroots",
    "list_remotes",
    "load_config_opts",
    "load_remote",
    "locate_paths",
    "mock_config",
    "parse_handover",
    "read_logging",
    "read_remote",
    "root_path",
    "shell_is_unprivileged",
    "user_home",
]
