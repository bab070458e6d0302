# SPDX-License-Identifier: GPL-2.0-or-later
"""Configuration: remotes from TOML, chroots from mock's .cfg files.

opts = load_config_opts(line.chroot, configdir)
apply_command_line(opts, line)
config, keys = engine_config(opts, line)
"""
