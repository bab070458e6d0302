# SPDX-License-Identifier: GPL-2.0-or-later
"""A node that is turned into an image: attested, installed to, emptied of itself, measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Final

from mock_cloud.attest.accounts import Accounts, parse_accounts
from mock_cloud.attest.manifest import SAME_AS_CONTROLLER, ImageManifest
from mock_cloud.attest.rules.cloudinit import has_finished
from mock_cloud.attest.rules.machine import chosen_rule, image_rules, machine_rules
from mock_cloud.attest.rules.volatile import cloud_init_rules
from mock_cloud.attest.running_manifest import LiveNode, make_live_manifest
from mock_cloud.attest.signer_report import SignerReport
from mock_cloud.attest.still_booting import find_patience_s
from mock_cloud.attest.verdict import NodeRefused
from mock_cloud.console import Console
from mock_cloud.errors import AttestationRefused, InputError, Reason, RemoteCommandError
from mock_cloud.images.reports import tell_signer_report
from mock_cloud.model import TrustedNode
from mock_cloud.remote.trusted import TrustedChannel
from mock_cloud.settings import Remote
from mock_cloud.signed.keys import PackageKeys
from mock_cloud.steps.attest.attesting import (
    Attested,
    Measured,
    bind,
    judge,
    measure_again,
    measure_anew,
    measure_node,
)
from mock_cloud.steps.attest.known_good_sets import KnownGood, read_file
from mock_cloud.steps.attest.verdicts import attest, nature
from mock_cloud.steps.context import NodeUse
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.decode import to_json
from mock_cloud.wire.orders import KEYS_MARK, InstallOrder
from mock_cloud.wire.terminal_text import sanitize

_LINES_SHOWN: Final = 20
_TAIL_BYTES: Final = 4096
_PAUSE_S: Final = 3.0
_Described = tuple[ImageManifest, SignerReport]
_DNF_CONF: Final = "[main]\nbest=1\ninstall_weak_deps=0\n"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a node is to have. `repos` are base URLs; none: those that it is configured for.

    `upgrade`: what it has already is renewed.
    """

    packages: tuple[str, ...]
    repos: tuple[str, ...] = ()
    releasever: str = ""
    upgrade: bool = True


@dataclass(frozen=True, slots=True)
class ImageCandidate:
    """A connected node that is being turned into an image.

    `name` and `created` go into its manifest.
    """

    use: NodeUse
    keys: PackageKeys
    name: str
    created: str

    @property
    def remote(self) -> Remote:
        return self.use.remote

    @property
    def console(self) -> Console:
        return self.use.console

    def attest_base(self, base: ImageManifest) -> TrustedNode:
        """The proof that this is a node of the image `base` describes. NodeRefused."""
        self.use.known = KnownGood.just_made(base, self.keys, self.remote)
        return attest(self.use).proof

    def adopt_base(
        self, report: Path, *, is_accepted: bool
    ) -> tuple[ImageManifest, TrustedNode, SignerReport]:
        """A manifest of the node as it is, for nobody has made one of its image.

        Packages must be signed by pinned keys and unchanged all the same. All else is listed in
        `report`: who wants to go on vouches for it. AttestationRefused unless `is_accepted`.
        """
        self.console.phase(f"remote {self.remote.name}: measuring an image that has no manifest")
        manifest, signer_report, found = self._measure_booted(None)
        self.console.done()
        tell_signer_report(signer_report, report, f"remote {self.remote.name}", self.console)
        if not is_accepted:
            count = sum(1 for _ in signer_report.unverified_lines())
            raise AttestationRefused(
                f"remote {self.remote.name}: its base image has no manifest: {count} files,"
                " processes and mounts of it are covered by no signature",
                reasons=(Reason("base.unverified", manifest.name, "a manifest", "none"),),
                hint=f"read {report}, then go on with --accept-unverified-base",
            )
        if isinstance(found, NodeRefused):
            raise found
        return manifest, found.proof, signer_report

    def attest_rebooted(self, base: ImageManifest) -> TrustedNode:
        """The proof that the node runs what its packages are now, and nothing that `base` has not.

        By a manifest of the node as it is. NodeRefused, AttestationRefused.
        """
        self.console.phase(f"remote {self.remote.name}: measuring the node that has rebooted")
        found = self._measure_booted(base)[2]
        if isinstance(found, NodeRefused):
            raise found
        return found.proof

    def _measure_booted(
        self, base: ImageManifest | None
    ) -> tuple[ImageManifest, SignerReport, Attested | NodeRefused]:
        """A manifest of the node after its boot, the report on it, and the verdict by it.

        What runs until the boot's end must not run for good. Nor may what sshd read meanwhile
        count: services of the boot may start it anew.
        """
        node, archive = self.use.node, self.use.archive
        measured = measure_node(node, self.use.toolkit, archive)
        deadline_s = time.monotonic() + self._patience_s
        while not has_finished(measured.parsed.files) and time.monotonic() < deadline_s:
            self.console.phase(f"remote {self.remote.name}: waiting for the end of the node's boot")
            time.sleep(_PAUSE_S)
            measured = measure_again(node, archive)
        return self._settle(
            lambda: measure_anew(node, archive), lambda found: self._image_manifest(found, base)
        )

    def _settle(
        self,
        measure: Callable[[], Measured],
        describe: Callable[[Measured], _Described],
        first: Measured | None = None,
    ) -> tuple[ImageManifest, SignerReport, Attested | NodeRefused]:
        """As `_measure_booted`, once nothing ends any more under the measurement, or at a deadline.

        A service that D-Bus had started does, half a minute later; a login that we left, at once.
        `first` is a measurement that there is already.
        """
        measured, started_s = first or measure(), time.monotonic()
        while True:
            try:
                manifest, signer_report = describe(measured)
                return manifest, signer_report, self._judge(measured, manifest)
            except AttestationRefused as refused:
                patience_s = find_patience_s(refused, self._patience_s)
                if time.monotonic() >= started_s + patience_s:
                    if isinstance(refused, NodeRefused):
                        return manifest, signer_report, refused
                    raise
            time.sleep(_PAUSE_S)
            measured = measure()

    @property
    def _patience_s(self) -> float:
        return self.remote.cloud.boot_timeout_s if self.remote.cloud else 0.0

    def adopt_machine(self, may_vary: Sequence[str]) -> tuple[ImageManifest, SignerReport]:
        """A manifest of this machine as it runs, and what its signer vouches for.

        What nobody may vouch for is refused: packages and programs that pinned keys did not sign
        so, and whatever a verdict by this very manifest finds. `may_vary` are paths of data.
        AttestationRefused, NodeRefused, InputError.
        """
        self.console.phase(f"remote {self.remote.name}: measuring the machine as it runs")
        node, archive = self.use.node, self.use.archive
        manifest, signer_report, found = self._settle(
            lambda: measure_anew(node, archive),
            lambda measured: self._machine_manifest(measured, may_vary),
            first=measure_node(node, self.use.toolkit, archive),
        )
        if isinstance(found, NodeRefused):
            raise found
        self.console.done()
        return manifest, signer_report

    def install(self, channel: TrustedChannel, wanted: Wanted) -> bool:
        """Packages by the node's own dnf. Whether it is to reboot: what was there has changed.

        RemoteCommandError with dnf's last words.
        """
        if not (wanted.packages or wanted.upgrade):
            return False
        tail = bytearray()

        def take(data: bytes) -> None:
            tail.extend(data)
            del tail[:-_TAIL_BYTES]
            last = sanitize(bytes(tail)).rstrip().rpartition("\n")[2]
            self.console.progress(f"remote {self.remote.name}: {last}")

        status, is_stale = channel.install(to_json(self._order(wanted)), take)
        self.console.done()
        if status != 0:
            for line in sanitize(bytes(tail)).splitlines()[-_LINES_SHOWN:]:
                self.console.error(f"dnf: {line}")
            raise RemoteCommandError(
                f"{self.use.leased.address}: dnf {'upgrade, ' * wanted.upgrade}install"
                f" {' '.join(wanted.packages)} failed with status {status}",
                code="install",
                hint="name packages and repositories that the base image's release has",
            )
        return is_stale

    def measure_image(
        self, channel: TrustedChannel, base: ImageManifest
    ) -> tuple[ImageManifest, SignerReport]:
        """Take out what is this node's own; the manifest of what is left, and what is new in it.

        What runs, listens and is mounted on the node then must be what `base` lets. NodeRefused,
        AttestationRefused.
        """
        phase = f"remote {self.remote.name}: measuring what becomes the image"
        self.console.phase(phase)
        channel.cleanse()
        node, archive = self.use.node, self.use.archive
        manifest, signer_report, found = self._settle(
            lambda: measure_again(node, archive),
            lambda measured: self._image_manifest(measured, base),
        )
        if isinstance(found, NodeRefused):
            raise found
        lines = list(signer_report.lines())
        self._show(f"{len(lines)} facts are new since the base image", lines)
        return manifest, signer_report

    def _order(self, wanted: Wanted) -> InstallOrder:
        paths = self.remote.attest.package_keys
        keys = {
            f"key{number}": read_file(path, "the package key").decode(errors="replace")
            for number, path in enumerate(paths)
        }
        conf = _DNF_CONF
        for number, url in enumerate(wanted.repos):
            urls = " ".join(f"file://{KEYS_MARK}/{name}" for name in keys)
            conf += f"[bake{number}]\nname={number}\nbaseurl={url}\ngpgkey={urls}\n"
        return InstallOrder(
            list(wanted.packages), conf, keys, wanted.releasever,
            only_these=bool(wanted.repos), upgrade=wanted.upgrade,
        )  # fmt: skip

    def _machine_manifest(self, measured: Measured, may_vary: Sequence[str]) -> _Described:
        rules = machine_rules(measured.parsed, of_cloud=self.remote.cloud is not None)
        try:
            rules += tuple(chosen_rule(measured.parsed, path) for path in may_vary)
        except ValueError as error:
            raise InputError(f"it cannot vary: {error}", hint="see --may-vary") from error
        manifest, signer_report = make_live_manifest(
            measured.parsed, measured.headers, self.keys, self._live(measured, is_machine=True),
            None, name=self.name, created=self.created, volatile=rules,
        )  # fmt: skip
        if self.remote.shares_kernel:
            manifest = replace(manifest, kernel=SAME_AS_CONTROLLER)
            signer_report = replace(signer_report, kernel=None)
        return manifest, signer_report

    def _image_manifest(self, measured: Measured, base: ImageManifest | None) -> _Described:
        return make_live_manifest(
            measured.parsed,
            measured.headers,
            self.keys,
            self._live(measured),
            base,
            name=self.name,
            created=self.created,
            volatile=cloud_init_rules() + image_rules(measured.parsed),
        )

    def _live(self, measured: Measured, *, is_machine: bool = False) -> LiveNode:
        return LiveNode(
            self._accounts(measured),
            self.use.toolkit,
            frozenset(self.use.leased.injected),
            self.use.leased.address.user,
            is_machine,
        )

    def _accounts(self, measured: Measured) -> Accounts:
        """From the node's own files, which must be the measured ones."""
        files = self.use.node.accounts()
        facts = {fact.path: fact.value for fact in measured.parsed.files if fact.path in files}
        for path, data in files.items():
            found = sha256(data).hexdigest()
            if facts.get(path) != found:
                raise AttestationRefused(
                    f"{self.use.leased.address}: {path} is not what was measured",
                    reasons=(Reason("file.changed", path, str(facts.get(path)), found),),
                    hint="something changes the node: try again",
                )
        try:
            return parse_accounts(files["/etc/passwd"], files["/etc/group"])
        except ValueError as error:
            raise AttestationRefused(
                f"{self.use.leased.address}: its accounts can't be read: {error}",
                reasons=(Reason("file.account", "/etc/passwd", "accounts", str(error)),),
            ) from error

    def _judge(self, measured: Measured, manifest: ImageManifest) -> Attested:
        binding = bind(
            self.use.node, self.use.leased, self.use.toolkit, measured.nonce, layers={},
            nature=nature(self.remote),
        )  # fmt: skip
        # What was taken out again, our keys among it, is not missing.
        there = {fact.path for fact in measured.parsed.files}
        left = {path: file for path, file in binding.injected.items() if path in there}
        known = KnownGood.just_made(manifest, self.keys, self.remote)
        return judge(
            self.use.leased, measured, known, self.use.archive,
            replace(binding, injected=left),
        )  # fmt: skip

    def _show(self, title: str, lines: list[str]) -> None:
        self.console.done()
        self.console.info(f"remote {self.remote.name}: {title}")
        for line in lines[:_LINES_SHOWN]:
            self.console.info(f"  {line}")
        if len(lines) > _LINES_SHOWN:
            self.console.info(f"  and {len(lines) - _LINES_SHOWN} more, all in the report")
