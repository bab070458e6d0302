# SPDX-License-Identifier: GPL-2.0-or-later
"""A small /etc/mock of real files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from mock_cloud.config.chroots import load_config_opts
from mock_cloud.config.defaults import ConfigOpts
from mock_cloud.config.engine import engine_config
from mock_cloud.config.overrides import apply_command_line
from mock_cloud.config.repositories import Portable
from mock_cloud.invocation.parser import parse_command_line
from mock_cloud.wire.job_request import EngineConfig

TEMPLATE = """\
config_opts['root'] = 'small-{{ releasever }}-{{ target_arch }}'
config_opts['chroot_setup_cmd'] = 'install @build'
config_opts['package_manager'] = 'dnf4'
config_opts['dnf.conf'] = \"\"\"
[main]
reposdir=/dev/null
gpgcheck=1
user_agent={{ user_agent }}

[base]
name=Base
baseurl=http://h/$releasever/$basearch
gpgkey=file://{{ keys }}/KEY-$releasever
       file://{{ keys }}/KEY-old https://h/KEY-web

[extra]
name=Extra
enabled=0
baseurl=http://h/extra
gpgkey=file:///nowhere/KEY
\"\"\"
"""


@dataclass(frozen=True)
class Etc:
    """A configuration directory and the user's home."""

    path: Path
    home: Path

    def write(self, name: str, text: str) -> Path:
        file = (self.home if name.startswith(".") else self.path) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def load(self, *argv: str) -> ConfigOpts:
        line = parse_command_line(["-r", "small", *(argv or ["--init"])], {})
        opts = load_config_opts(line.chroot, self.path, home=self.home)
        apply_command_line(opts, line)
        return opts

    def render(self, *argv: str) -> tuple[EngineConfig, Portable]:
        line = parse_command_line(["-r", "small", *(argv or ["--init"])], {})
        return engine_config(self.load(*argv), line)


@pytest.fixture
def etc(tmp_path: Path) -> Etc:
    made = Etc(tmp_path / "etc", tmp_path / "home")
    made.write("templates/small.tpl", TEMPLATE)
    made.write(
        "small.cfg",
        "config_opts['releasever'] = '7'\n"
        "config_opts['target_arch'] = 'x86_64'\n"
        "config_opts['legal_host_arches'] = ('x86_64',)\n"
        f"config_opts['keys'] = '{made.path}/keys'\n"
        "include('templates/small.tpl')\n",
    )
    made.write("keys/KEY-7", "seven")
    made.write("keys/KEY-old", "old")
    return made
