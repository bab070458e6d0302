# SPDX-License-Identifier: GPL-2.0-or-later
"""A user's directories, a remote, and its cloud: all that the story of a build needs, in memory."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from mock_cloud import session
from mock_cloud.attest.envelope import Signer
from mock_cloud.attest.validity import Validity, sign_manifest
from mock_cloud.cloud import listing, pool
from mock_cloud.cloud.journal import Journal
from mock_cloud.cloud.lease import Lease
from mock_cloud.config.chroots import load_config_opts
from mock_cloud.config.overrides import apply_command_line
from mock_cloud.console import Console
from mock_cloud.invocation.parser import parse_command_line
from mock_cloud.settings import AttestSettings, Remote
from mock_cloud.sshkeys import make_key_pair
from mock_cloud.steps.lease import node as lease_node
from mock_cloud.wire.rpmheader import Tag
from tests.unit.attest import attest_builder
from tests.unit.session.scripted_node import ScriptedCloud
from tests.unit.signed.package_maker import numbers, package_file

CONFIG = """\
config_opts['root'] = 'small'
config_opts['target_arch'] = 'x86_64'
config_opts['chroot_setup_cmd'] = 'install @build'
config_opts['basedir'] = '{base}'
config_opts['dnf.conf'] = '[main]\\nreposdir=/dev/null\\n[r]\\nbaseurl=http://r/\\ngpgcheck=1\\n'
"""
SRPM = "tiny-1-1.src.rpm"
PACKAGE = "tiny-1-1.noarch.rpm"


class Place:
    """A user's directories, a remote, and its cloud."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.results = path / "results"
        self.screen = io.StringIO()
        self.cloud = ScriptedCloud()
        self.etc = path / "etc"
        self.etc.mkdir()
        (self.etc / "small.cfg").write_text(CONFIG.format(base=path / "mock"))
        self.srpm = path / SRPM
        self.srpm.write_bytes(package_file("tiny", b"payload", [numbers(Tag.SOURCEPACKAGE, [1])]))
        self.cloud.scripts[0].results[PACKAGE] = package_file("tiny", b"payload", [])
        self.remote = self._make_remote()

    def enter(self, patch: Callable[[object, str, object], None]) -> None:
        """The two ends of what a build needs from outside: who makes nodes, and what they get."""
        patch(pool, "find_provider", lambda *_: self.cloud)
        patch(listing, "find_provider", lambda *_: self.cloud)
        patch(lease_node, "find_toolkit", lambda *_: attest_builder.toolkit())

    def _make_remote(self) -> Remote:
        pair = make_key_pair()
        signer = Signer.from_private(pair.private.reveal())
        manifest, public = self.path / "image.manifest", self.path / "image-key.pub"
        image = attest_builder.manifest()
        manifest.write_bytes(
            sign_manifest(
                image, Validity("image", 1, int(time.time()), int(time.time()) + 10**8), signer
            )
        )
        public.write_text(f"{pair.public}\n")
        keys = (attest_builder.DATA / "distribution.asc",)
        settings = AttestSettings(manifest, (public,), keys)
        return Remote("cloud", "ec2", ("x86_64",), settings)

    def build(
        self, *words: str, chroot: str = "small", console: Console | None = None, **changes: object
    ) -> int:
        """`mock --rebuild` of the source package, or the mode in `words`."""
        words = words or ("--rebuild", str(self.srpm))
        argv = ["--configdir", str(self.etc), "-r", chroot]
        argv += [] if "--chain" in words else ["--resultdir", str(self.results)]
        line = parse_command_line([*argv, *words], {})
        opts = load_config_opts(chroot, self.etc, home=self.etc)
        apply_command_line(opts, line)
        self.remote = replace(self.remote, **changes)  # type: ignore[arg-type]
        return session.run(line, opts, self.remote, console or Console(stream=self.screen))

    @property
    def journal(self) -> Journal:
        return Journal(self.path / "state/mock-cloud")

    @property
    def lease(self) -> Lease:
        (lease,) = self.journal.leases()
        return lease

    def names(self) -> set[str]:
        return {path.name for path in self.results.iterdir()} if self.results.exists() else set()
