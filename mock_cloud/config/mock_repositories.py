# SPDX-License-Identifier: GPL-2.0-or-later
"""dnf.conf for a mock on a node: expanded here, so that what was judged is what is used there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from mock_cloud.config.access import Accesses, without_logins
from mock_cloud.config.defaults import ConfigOpts
from mock_cloud.config.engine import proxy_environ
from mock_cloud.config.repositories import (
    KEY_PREFIX,
    Keys,
    add_repositories,
    are_signed,
    make_portable,
)
from mock_cloud.config.tunnel import Repositories
from mock_cloud.config.values import read_option, read_text, read_texts, read_words
from mock_cloud.errors import ConfigError
from mock_cloud.invocation.carrying import IMAGE_MAX_BYTES, Carrier
from mock_cloud.invocation.hostfiles import HostFile
from mock_cloud.invocation.model import CommandLine
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.dnf_conf import dnf_variables
from mock_cloud.wire.job_request import JOB_DIRECTORY

_CONF: Final = "dnf.conf"
_OFFLINE: Final = "offline_local_repository"
# Stands for a hermetic build's repository, which goes along, while the others are judged.
_STAND_IN: Final = "http://offline.invalid"


@dataclass(frozen=True, slots=True)
class PortableRepositories:
    """dnf.conf by `repo_arch`: `texts` has `own`, the chroot's, and what its bootstrap may have.

    `offline` is where a hermetic build's repository lies on the node, empty for other builds.
    `keys` are the files of role gpgkey that the texts name.
    """

    texts: Mapping[str, str]
    own: str
    offline: str
    variables: Mapping[str, str]
    switches: Sequence[tuple[str, str]]
    keys: tuple[HostFile, ...]
    accesses: Accesses

    def of_chroot(self, environment: Mapping[str, str]) -> Repositories:
        """The chroot's own, to find ways to them; proxies with passwords are none of its."""
        return Repositories(
            self.texts[self.own], self.variables, self.switches, without_logins(environment),
            tuple(self.accesses.found.values()), self.accesses.environ,
        )  # fmt: skip

    @property
    def are_signed(self) -> bool:
        """Whether dnf checks every package's signature, in the bootstrap chroot too."""
        return all(are_signed(text, self.variables, self.switches) for text in self.texts.values())

    def options(self, change: Callable[[str], str]) -> dict[str, str]:
        """The options for the node, after `change` was applied to each text.

        mock expands values until nothing changes any more: no text here is a template any longer.
        """
        texts = {arch: self._settled(change(text)) for arch, text in self.texts.items()}
        own = texts[self.own]
        if len(set(texts.values())) > 1:
            branches = "".join(
                f"{{% {'elif' if number else 'if'} repo_arch == '{arch}' %}}{text}"
                for number, (arch, text) in enumerate(texts.items())
            )
            own = f"{branches}{{% else %}}{own}{{% endif %}}"
        return {_CONF: own, **({_OFFLINE: self.offline} if self.offline else {})}

    def _settled(self, text: str) -> str:
        text = text.replace(_STAND_IN, f"file://{self.offline}")
        return text.replace(KEY_PREFIX, f"file://{JOB_DIRECTORY}/inputs/gpgkey/")


def portable_repositories(
    opts: ConfigOpts, line: CommandLine, carrier: Carrier
) -> PortableRepositories:
    """dnf.conf without paths of this machine but repositories'. Raises what `make_portable` does.

    mock's bootstrap chroot may have another `repo_arch` than the chroot, on which a template may
    depend.
    """
    here = offline = ""
    if line.hermetic_build:
        repository = Path(line.hermetic_build[1].removeprefix("file://")).absolute()
        here = opts[_OFFLINE] = str(repository)
        offline = carrier.tree(repository, "--hermetic-build", max_bytes=IMAGE_MAX_BYTES)
    variables = dnf_variables(
        read_text(opts, "releasever"), read_text(opts, "target_arch"), read_texts(opts, "dnf_vars")
    )
    keys = Keys(variables)
    accesses = Accesses(variables, proxy_environ(opts))
    texts: dict[str, str] = {}
    for arch in _repository_arches(opts):
        text = add_repositories(_rendered(opts, arch), line.repos)
        if here:
            text = text.replace(f"file://{here}", _STAND_IN)
        texts[arch] = make_portable(text, variables, line.enable_disable_repos, keys, accesses).text
    return PortableRepositories(
        texts=texts,
        own=read_text(opts, "repo_arch"),
        offline=offline,
        variables=variables,
        switches=line.enable_disable_repos,
        keys=tuple(keys.files.values()),
        accesses=accesses,
    )


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
