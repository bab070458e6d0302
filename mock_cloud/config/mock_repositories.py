# SPDX-License-Identifier: GPL-2.0-or-later
"""dnf.conf for a mock on a node: expanded here, so that what was judged is what is used there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mock_cloud.agent.job.request import JOB_DIRECTORY
from mock_cloud.config.defaults import ConfigOpts
from mock_cloud.config.repositories import (
    KEY_PREFIX,
    Keys,
    add_repositories,
    dnf_variables,
    make_portable,
)
from mock_cloud.config.tunnel import Repositories, choose, read_sources
from mock_cloud.config.values import read_option, read_text, read_texts, read_words
from mock_cloud.errors import ConfigError
from mock_cloud.invocation import CommandLine, HostFile
from mock_cloud.invocation.carrying import IMAGE_MAX_BYTES, Carrier
from mock_cloud.settings import RepoAccess

_CONF: Final = "dnf.conf"
_OFFLINE: Final = "offline_local_repository"
# Stands for a hermetic build's repository, which goes along, while the others are judged.
_STAND_IN: Final = "http://offline.invalid"


@dataclass(frozen=True, slots=True)
class PortableRepositories:
    """`options` are dnf.conf and what it needs; `keys` the files of role gpgkey it names."""

    options: dict[str, Any]
    keys: tuple[HostFile, ...]


def portable_repositories(
    opts: ConfigOpts, line: CommandLine, carrier: Carrier
) -> PortableRepositories:
    """dnf.conf without paths of this machine. Raises what `make_portable` raises.

    mock's bootstrap chroot may have another `repo_arch` than the chroot, on which a template may
    depend: where that makes a difference, the text has both.
    """
    found: dict[str, Any] = {}
    here = _take_repository(opts, line, carrier, found)
    texts: dict[str, str] = {}
    variables = dnf_variables(
        read_text(opts, "releasever"), read_text(opts, "target_arch"), read_texts(opts, "dnf_vars")
    )
    keys = Keys(variables)
    for arch in _repository_arches(opts):
        text = add_repositories(_rendered(opts, arch), line.repos)
        if here:
            text = text.replace(here, _STAND_IN)
        text = make_portable(text, variables, line.enable_disable_repos, keys).text
        for source in read_sources(Repositories(text, variables, line.enable_disable_repos)):
            choose(source, RepoAccess.DIRECT, shares_network=False)  # this engine has no tunnel yet
        text = text.replace(_STAND_IN, f"file://{found.get(_OFFLINE, '')}")
        texts[arch] = text.replace(KEY_PREFIX, f"file://{JOB_DIRECTORY}/inputs/gpgkey/")
    found[_CONF] = _either(texts, read_text(opts, "repo_arch"))
    return PortableRepositories(found, tuple(keys.files.values()))


def _take_repository(
    opts: ConfigOpts, line: CommandLine, carrier: Carrier, found: dict[str, Any]
) -> str:
    """Take a hermetic build's repository along; the URL it has here."""
    if not line.hermetic_build:
        return ""
    here = Path(line.hermetic_build[1].removeprefix("file://")).absolute()
    found[_OFFLINE] = carrier.tree(here, "--hermetic-build", max_bytes=IMAGE_MAX_BYTES)
    opts[_OFFLINE] = str(here)
    return f"file://{here}"


def _repository_arches(opts: ConfigOpts) -> list[str]:
    own = read_text(opts, "repo_arch")
    mapped = read_option(opts, "repo_arch_map", {})
    hosts = read_words(opts, "legal_host_arches")
    return list(dict.fromkeys([own, *(str(mapped.get(host, host)) for host in hosts)]))


def _rendered(opts: ConfigOpts, repo_arch: str) -> str:
    before = opts["repo_arch"]
    opts["repo_arch"] = repo_arch
    try:
        text = read_option(opts, _CONF)
    finally:
        opts["repo_arch"] = before
    if not isinstance(text, str) or not text.strip():
        raise ConfigError("the configuration has no config_opts['dnf.conf']")
    return text


def _either(texts: dict[str, str], own: str) -> str:
    """One template that expands to the text for whatever `repo_arch` is.

    mock expands values until nothing changes any more: no text here is a template any longer.
    """
    if len(set(texts.values())) == 1:
        return texts[own]
    branches = "".join(
        f"{{% {'elif' if number else 'if'} repo_arch == '{arch}' %}}{text}"
        for number, (arch, text) in enumerate(texts.items())
    )
    return f"{branches}{{% else %}}{texts[own]}{{% endif %}}"
