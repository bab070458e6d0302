# SPDX-License-Identifier: GPL-2.0-or-later
"""A chroot with packages: made from layers where there are any, else by dnf and kept as layers.

Packages are installed in a layer of their own for as long as nothing but the unprivileged
build user wrote to the chroot: then the layer is the same for the next build with the same
needs. After that dnf writes to the chroot itself.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace

from mock_cloud.agent.engine import jail, layers, logs, packages, processes, repos, skeleton
from mock_cloud.agent.engine.cache import Cache
from mock_cloud.agent.engine.chroot import MOCK_TREE, Chroot, find_kept
from mock_cloud.agent.engine.context import Job
from mock_cloud.agent.engine.packages import PackageManager
from mock_cloud.agent.engine.shadow import ShadowPacker
from mock_cloud.wire.job_request import EngineConfig, tunnel_url
from mock_cloud.wire.layout import CA_BUNDLES

_BUILD_DIRS = ("RPMS", "SPECS", "SRPMS", "SOURCES", "BUILD", "BUILDROOT", "originals")
_KEPT_IN_HOME = ("SOURCES", ".bash_history", ".bashrc")
_BASE_FIELDS = (
    "target_arch", "package_manager", "dnf_conf", "chroot_setup_cmd", "releasever",
    "dnf_vars", "dnf_common_opts", "dnf_disable_plugins", "other_common_opts",
    "other_disable_plugins", "repo_switches", "environment", "files",
    "chrootuser", "chrootgroup", "chrootuid", "chrootgid", "chroothome", "extra_chroot_dirs",
    "use_host_resolv", "rpmbuild_networking",
)  # fmt: skip


class Buildroot:
    """The chroot of a job. Close it; what is kept for later jobs is decided by the caller."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.config: EngineConfig = job.config
        self.logs = job.logs
        self._joins = bool(job.request.beside)
        self.chroot = Chroot(self.config.root, job.id)
        self.store = layers.LayerStore(job.workspace, job.id, job.request.layers)
        self._keys = os.path.join(self.chroot.base, "gpgkeys")
        cache_key = layers.key_of(kind="cache", conf=self.config.dnf_conf, root=self.config.root)
        cache = Cache(os.path.join(job.workspace, "dnf"), cache_key, job.id)
        visible = (os.path.join(job.directory, "inputs"), job.results)
        self.packages = PackageManager(
            self.config, self.chroot, self.logs, cache, self._keys, visible
        )
        self.shadow = ShadowPacker(job, self.chroot.root, self.config.chrootuid)
        self.packages.on_output = self.shadow.poll
        self.packages.on_end = lambda: self.shadow.poll(now=True)
        self._stack_key = ""
        self._satisfied: frozenset[str] = frozenset()
        self._layered = False
        self._revisions: dict[str, str] | None = None
        self._network: int | None = None
        self._hw_info = ""

    # life

    def open(self) -> None:
        """Take the chroot for this job. RootLocked if another job has it, or does not share it."""
        if self._joins:
            self.chroot.join()
            self.chroot.use_mounted()
            return  # all else is the other job's
        self.chroot.lock()
        Cache(self.chroot.base, MOCK_TREE, self.job.id).remove()  # one name is one chroot
        os.makedirs(self._keys, mode=0o755, exist_ok=True)
        for item in self.job.inputs_of("gpgkey"):
            self.job.take_input(item, self._keys)
        self.packages.cache.find(self.store.may_reuse)

    def close(self) -> None:
        """Unmount, record what stays on the node, drop what nobody needs. Idempotent."""
        # A job that has not got the chroot for itself must not answer for what another is making.
        alone = self.chroot.take_alone()
        self.chroot.unmount()
        if self._network is not None:
            os.close(self._network)
            self._network = None
        kept = self.chroot.find_kept() if alone else None
        if kept is not None and not self.store.may_reuse(kept.upper):
            self.store.record(kept.upper)
        if self._joins:
            shutil.rmtree(self.packages.cache.path, ignore_errors=True)
        else:
            if self.packages.was_run and os.path.isdir(self.packages.cache.path):
                self.store.record(self.packages.cache.path)
            self.store.prune(_kept_roots(os.path.dirname(self.chroot.base)))
        self.store.close()
        self.chroot.unlock()

    @property
    def is_kept(self) -> bool:
        return self.chroot.find_kept() is not None

    def delete(self) -> None:
        """mock's ``clean``: nothing of the chroot's content is left."""
        self.chroot.delete()
        self._layered = False

    def remove_layers(self) -> None:
        """mock's ``scrub root-cache``: the chroots that were kept stay as they are."""
        self.store.remove_all(in_use=_kept_roots(os.path.dirname(self.chroot.base)))

    def init(self, *, prebuild: bool = False, requirements: Sequence[str] | None = None) -> None:
        """mock's ``chroot init``: make the chroot usable, or use the one that is there.

        `prebuild` empties the build user's home of what an earlier build left there.
        `requirements` is what a build will ask for: if there is a layer for it, the chroot
        stands on it from the start. It is no promise and nothing is installed for it.

        Where another job uses the chroot there is nothing to do, as with mock.
        """
        self.logs.announce()
        if not self.chroot.take_alone():
            return
        with self.logs.state("chroot init"):
            os.makedirs(self.chroot.base, mode=0o755, exist_ok=True)
            self._write_hw_info()
            fresh = not self.chroot.is_mounted and not self._mount_kept()
            if fresh:
                self._mount_fresh(requirements)
            if fresh or prebuild:
                self._set_up_home()
            self.shadow.begin(fresh=fresh)
            self.chroot.keep()
        self.chroot.share()

    def _mount_kept(self) -> bool:
        kept = self.chroot.find_kept()
        if kept is None:
            return False
        trees = (*kept.lowers, kept.upper)
        if not all(self.store.may_reuse(path) and os.path.isdir(path) for path in trees):
            self.logs.warning(
                "the chroot that an earlier build left is not covered by this attestation:"
                " a new one is made"
            )
            self.chroot.delete()
            return False
        self.chroot.take_over(kept)
        self._layered = False
        return True

    def _mount_fresh(self, requirements: Sequence[str] | None) -> None:
        self.shadow.refuse_new_chroot()
        self.chroot.delete()
        base = self._base_layer()
        lowers = [base]
        if requirements:
            key = self._next_key(requirements, ())
            layer = self.store.find(key)
            if layer is not None:
                self._stack_key = key
                self._satisfied = frozenset(requirements)
                lowers = [layer, base]
        self.chroot.mount(lowers)
        self._layered = True

    # layers

    def revisions(self) -> dict[str, str]:
        """What the enabled repositories hold now; looked up once a job.

        Raises PackageManagerError naming the repository that cannot be had.
        """
        if self._revisions is None:
            if not self.config.online:
                self._revisions = self.packages.cached_revisions()
            else:
                enabled = repos.parse_repositories(
                    self.packages.conf_text,
                    releasever=self.config.releasever,
                    arch=self.config.target_arch,
                    variables=self.config.dnf_vars,
                    switches=self.config.repo_switches,
                    tunnel=tunnel_url(self.job.request),
                )
                self.packages.set_repositories(enabled)
                bundle = next((path for path in CA_BUNDLES if os.path.exists(path)), None)
                self._revisions = self.packages.attempt(
                    lambda: repos.fetch_revisions(enabled, bundle)
                )
            self.packages.set_revisions(self._revisions)
        return self._revisions

    def _base_key(self) -> str:
        fields = asdict(self.config)
        keys = {item.name: item.digest for item in self.job.inputs_of("gpgkey")}
        chosen = {name: fields[name] for name in _BASE_FIELDS}
        return layers.key_of(
            kind="base",
            config=chosen,
            keys=keys,
            revisions=self.revisions(),
            sources=skeleton.sources(self.config),
        )

    def _next_key(self, requirements: Sequence[str], extras: Sequence[str]) -> str:
        return layers.key_of(
            kind="packages",
            below=self._stack_key,
            requirements=sorted(requirements),
            extras=list(extras),
            options=self.config.dnf_builddep_opts,
        )

    def _base_layer(self) -> str:
        self._stack_key = self._base_key()
        self._satisfied = frozenset()
        found = self.store.find(self._stack_key)
        if found is not None:
            self.logs.debug(f"base layer {self._stack_key}")
            return found
        with contextlib.ExitStack() as undo:
            draft = self.store.draft(self._stack_key)
            undo.callback(draft.discard)
            self.chroot.mount_plain(draft.root)
            undo.callback(self.chroot.unmount)
            skeleton.prepare_tree(self.chroot.root, self.config)
            self.packages.write_config()
            self.chroot.mount_kernel_filesystems()
            with self.logs.state(f"installing minimal buildroot with {self.packages.name}"):
                if self.config.chroot_setup_cmd:
                    self.packages.run(self.config.chroot_setup_cmd)
            skeleton.finish(self.chroot.root, self.config)  # its own packages' scripts were root
            self.log_installed()
            self.chroot.unmount()
            self._note_revisions()
            self.packages.cache.drop_packages()
            root = self.store.keep(
                draft, self._stack_key, "base", revisions=self.revisions(), requirements=[]
            )
            undo.pop_all()
        return root

    def _note_revisions(self) -> None:
        """A repository may change between our look and dnf's: the key says what dnf used."""
        cached = self.packages.cached_revisions()
        now = self.revisions()
        self._revisions = {name: cached.get(name, now[name]) for name in now}
        self.packages.set_revisions(self._revisions)
        self._stack_key = self._base_key()

    def _package_layer(
        self, requirements: Sequence[str], commands: list[list[str]], key: str
    ) -> bool:
        """Install in a layer of its own and stand on it. False if it can't be one."""
        lowers = list(self.chroot.lowers)
        with contextlib.ExitStack() as undo:
            draft = self.store.draft(key)
            undo.callback(draft.discard)
            self.chroot.unmount()
            undo.callback(self.chroot.mount, lowers)
            self.chroot.mount(lowers, draft.root)
            undo.callback(self.chroot.unmount)
            for command in commands:
                self.packages.run(command)
            shutil.rmtree(self.chroot.path("installation-homedir"), ignore_errors=True)
            self.chroot.unmount()
            shutil.rmtree(os.path.join(draft.path, "work"), ignore_errors=True)
            if not all(layers.freeze(draft.root, lower) for lower in lowers):
                return False
            root = self.store.keep(
                draft, key, "packages", revisions=self.revisions(), requirements=list(requirements)
            )
            undo.pop_all()
        self._stand_on(key, root)
        return True

    def _stand_on(self, key: str, root: str) -> None:
        """Put the layer `root` between the chroot's layers and what was written to it."""
        lowers = [root, *self.chroot.lowers]
        self.chroot.unmount()
        self.chroot.mount(lowers)
        self.chroot.keep()
        self._stack_key = key

    def install_dependencies(
        self, requirements: Sequence[str], extras: Sequence[str], source_package: str
    ) -> bool:
        """Install what `source_package` (a path on the node) requires, after the words `extras`.

        False if the set of installed packages is as it was before.
        """
        wanted = frozenset((*requirements, *(f"extra {word}" for word in extras)))
        if wanted <= self._satisfied:
            return False
        commands = [["install", *extras]] if extras else []
        if requirements:
            commands.append(["builddep", source_package])
        satisfied = self._satisfied | wanted
        changed = self._install_as_layer(requirements, extras, commands)
        if changed is None:
            before = self.installed()
            for command in commands:
                self.run_packages(command)
            changed = self.installed() != before
        self._satisfied = satisfied
        return changed

    def _install_as_layer(
        self, requirements: Sequence[str], extras: Sequence[str], commands: list[list[str]]
    ) -> bool | None:
        """Stand on a layer with what `commands` install, made if need be; whether it has more.

        None if there can be no layer. The chroot is mounted anew for one, so the job must have it
        for itself.
        """
        if not self._layered or self.packages.extra_conf:
            return None
        with self.chroot.untouched() as untouched:
            if not untouched:
                return None
            key = self._next_key(requirements, extras)
            found = self.store.find(key)
            if found is not None and found not in self.chroot.lowers:
                self._stand_on(key, found)
                return True
            before = self.installed()
            made = self._package_layer(requirements, commands, key)
            return self.installed() != before if made else None

    def run_packages(self, command: Sequence[str]) -> str:
        """One dnf command on the chroot itself. From then on nothing of it becomes a layer."""
        self._layered = False
        self.revisions()
        self.packages.write_config()
        return self.packages.run(command)

    def installed(self) -> list[packages.Installed]:
        return packages.list_installed(self.chroot.root)

    def log_installed(self) -> None:
        names = "\n".join(package.nevra for package in self.installed())
        self.logs.debug(f"Installed packages:\n{names}")

    # places

    def builder(self, cwd: str = "/", *, networking: bool | None = None) -> processes.Place:
        """The build user in the chroot, without network unless the configuration allows it."""
        config = self.config
        return processes.Place(
            root=self.chroot.root,
            uid=config.chrootuid,
            gid=config.chrootgid,
            cwd=cwd,
            network=self._network_namespace(networking),
            arch=config.target_arch,
            environment={**config.environment, "HOME": config.chroothome},
        )

    def superuser(self, cwd: str = "/") -> processes.Place:
        """root in the chroot, with the same network as the build user."""
        config = self.config
        return processes.Place(
            root=self.chroot.root,
            cwd=cwd,
            network=self._network_namespace(None),
            arch=config.target_arch,
            environment={**config.environment, "HOME": config.chroothome},
        )

    def _network_namespace(self, networking: bool | None) -> int | None:
        allowed = self.config.rpmbuild_networking if networking is None else networking
        if allowed:
            return None
        if self._network is None:
            self._network = jail.open_isolated()
        return self._network

    # the build user's home

    def _set_up_home(self) -> None:
        """mock's home for the build: emptied but for what mock keeps, with its macros."""
        config = self.config
        home = config.chroothome
        macros = f"{config.macrofile_text}\n\n" if config.macrofile_text else ""
        macros += "".join(f"{name} {value}\n" for name, value in config.macros.items())

        build = os.path.join(home, "build")

        def clear() -> bytes:
            _empty(home, keep=("build", *_KEPT_IN_HOME))
            if os.path.islink(build) or not os.path.isdir(build):
                _empty(home, keep=_KEPT_IN_HOME)
            else:
                _empty(build, keep=_KEPT_IN_HOME)
            return b""

        def set_up() -> bytes:
            for name in _BUILD_DIRS:
                os.makedirs(os.path.join(build, name), exist_ok=True)
            with open(os.path.join(home, ".rpmmacros"), "w", errors="surrogateescape") as stream:
                stream.write(macros)
            return b""

        # As root, as mock does it: a build may close its directories, a command leave root's there.
        inside = processes.Place(root=self.chroot.root)
        processes.call(inside, clear)
        processes.call(replace(inside, uid=config.chrootuid, gid=config.chrootgid), set_up)

    def _write_hw_info(self) -> None:
        """hw_info.log beside the other logs, once for each place that they are in."""
        path = os.path.join(self.logs.directory or self.job.results, "hw_info.log")
        if self.config.hw_info and path != self._hw_info:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8", errors="replace") as stream:
                stream.write(logs.describe_hardware((self.chroot.base, self.job.workspace)))
            self._hw_info = path


def _empty(directory: str, keep: Sequence[str]) -> None:
    for entry in os.scandir(directory):
        if entry.name in keep:
            continue
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)


def _kept_roots(libdir: str) -> set[str]:
    """The layers under every chroot that is kept on this node."""
    roots: set[str] = set()
    for entry in os.scandir(libdir):
        if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
            kept = find_kept(entry.path)
            roots.update(kept.lowers if kept else ())
    return roots
