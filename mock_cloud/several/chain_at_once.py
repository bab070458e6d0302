# SPDX-License-Identifier: GPL-2.0-or-later
"""``--chain --jobs N``: a chain on up to N nodes at once, by mock's rules for one.

Each package is built as --rebuild builds it, against those directories of the local repository that
it would have met there on one node. The repository's metadata are made at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import field, replace
from pathlib import Path
from typing import Final

from mock_cloud.config.defaults import ConfigOpts
from mock_cloud.config.paths import chain_results
from mock_cloud.console import Console
from mock_cloud.errors import EXIT_INFRASTRUCTURE, EXIT_REFUSED, InputError
from mock_cloud.exit_status import Stopped
from mock_cloud.file_owner import as_owner, make_directories
from mock_cloud.invocation.hostfiles import host_inputs
from mock_cloud.invocation.model import CommandLine
from mock_cloud.results.resultdir import ResultDir
from mock_cloud.several.at_once import BuildPackage, check_together, check_twins
from mock_cloud.several.chain_order import ChainLink, ChainOrder, LinkPhase, read_built, read_link
from mock_cloud.several.children import Children
from mock_cloud.steps.check.fetching import fetched
from mock_cloud.steps.results.mirror import own_repository
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.rpmheader import HeaderError

_PARTLY_BUILT: Final = 4
_NO_PACKAGES: Final = frozenset({2, 3, 5, 7, 50, 60, 70, EXIT_INFRASTRUCTURE, EXIT_REFUSED})
"""Exit codes that are no package's fault: on one node they would be the command's."""
_METADATA: Final = "repository"
_LISTED_MAX: Final = 16 << 20


def build_chain(
    line: CommandLine, opts: ConfigOpts, max_nodes: int, build_one: BuildPackage, console: Console
) -> int:
    """Build the packages of `line`; mock's exit code: 0, or 4 if some failed.

    Raises what `host_inputs` does; ResultDirError, InputError, Stopped.
    """
    check_together(opts)
    with fetched(line, console) as here:
        host_inputs(here)
        check_twins(here.args)
        repository = Path(line.localrepo) if line.localrepo else own_repository(line)
        results = chain_results(repository, opts)
        with ResultDir.open(results):
            console.info(f"results dir: {results}")
        chain = _Chain(here, repository.absolute(), results, build_one, console)
        chain.at_once = min(line.jobs, max_nodes, len(here.args))
        with closing(Children(console, line.verbose)) as children:
            try:
                return chain.build(children)
            except Stopped as stopped:
                children.stop(stopped)
                raise


@dataclass(slots=True)
class _Chain:
    """One command's chain. `built` and `skipped` are names, in the order in which they ended."""

    line: CommandLine
    repository: Path
    results: Path
    build_one: BuildPackage
    console: Console
    at_once: int = 1
    built: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    code: int = 0

    def build(self, children: Children) -> int:
        """All rounds: with --recurse failed ones are built again as long as others succeed."""
        links = [self._read(word) for word in self.line.args]
        names = {link.name for link in links}
        there = [one for one in _directories(self.results) if one not in names]
        for link in links:
            if (self.results / link.name / "success").exists():
                self._note_built(link)
                self.skipped.append(link.name)
                self.console.info(f"Skipping already built pkg {Path(link.word).name}")
        todo, tries = links, 0
        while True:
            tries += 1
            self._round(ChainOrder(todo, there, goes_on=self.line.cont), children)
            failed = [link for link in todo if link.phase is not LinkPhase.BUILT]
            if not failed or self.code or not self.line.recurse:
                break
            if len(failed) == len(todo):
                self.console.info(
                    f"Tried {tries} times - following pkgs could not be successfully built:"
                )
                for link in failed:
                    self.console.info(link.word)
                break
            self.console.info("Some package succeeded, some failed.")
            self.console.info(
                f"Trying to rebuild {len(failed)} failed pkgs, because --recurse is set."
            )
            there += [link.name for link in todo if link.phase is LinkPhase.BUILT]
            todo = [replace(link, phase=LinkPhase.WAITING, without=frozenset()) for link in failed]
        if self.built or self.skipped:
            self._make_metadata(children, links)
        self._summarise(is_partly=bool(failed))
        return self.code or (_PARTLY_BUILT if failed else 0)

    def _round(self, order: ChainOrder, children: Children) -> None:
        by_name = {link.name: link for link in order.links}
        while True:
            while len(children) < self.at_once and not self.code:
                link = order.find_next()
                if link is None:
                    break
                self._begin(link, order.begin(link), children)
            if not children:
                break
            for name, code in children.wait():
                self._end(by_name[name], code, order)
        failed = [link for link in order.links if link.phase is LinkPhase.FAILED]
        for link in failed:
            self._tell_failed(link)
        if failed and not self.line.cont:
            self.console.error(
                "Stopping the --chain build because --continue isn't specified and the package"
                f" '{failed[0].word}' failed to build"
            )

    def _begin(self, link: ChainLink, built: tuple[str, ...], children: Children) -> None:
        self.console.info(f"Start chain build: {link.word}")
        own = replace(
            self.line,
            mode="rebuild",
            args=(link.word,),
            localrepo=str(self.repository),
            built=built,
            resultdir=str(self.results / link.name),
            uniqueext=f"{self.line.uniqueext or 'job'}-{self.line.args.index(link.word) + 1}",
        )
        children.start(link.name, self._act(own))

    def _act(self, line: CommandLine) -> Callable[[Console], int]:
        return lambda console: self.build_one(line, console)

    def _end(self, link: ChainLink, code: int, order: ChainOrder) -> None:
        self.console.info(f"End chain build: {link.word}")
        if code in _NO_PACKAGES:
            self.code = self.code or code
        link.installed = _read_installed(self.results / link.name)
        try:
            if not code:
                self._note_built(link)
        except InputError as error:  # the node's packages are no packages
            self.console.failure(error)
            code = error.exit_code
        again = order.end(link, is_built=not code)
        for one in again:
            self.console.info(f"{one.name} is built again: it was built without what came before")
            if one.name in self.built:
                self.built.remove(one.name)
                self._unmark(one)
        if code:
            self.console.info(f"Error building {Path(link.word).name}.")
        elif link not in again:
            self.console.info(f"Success building {Path(link.word).name}")
            self.built.append(link.name)
            self._mark(link, "success")

    def _tell_failed(self, link: ChainLink) -> None:
        """Of one whose failure stands."""
        if self.line.recurse:
            self.console.info("Will try to build again (if some other package will succeed).")
        else:
            self.console.info(f"See logs/results in {self.results}")
            self._mark(link, "fail")

    def _make_metadata(self, children: Children, links: list[ChainLink]) -> None:
        """By a node: a chain whose only package is built already makes them, and builds nothing."""
        done = next(link for link in links if link.name in (*self.built, *self.skipped))
        line = replace(
            self.line,
            args=(done.word,),
            jobs=1,
            localrepo=str(self.repository),
            cont=False,
            recurse=False,
            verbose=0,
        )
        children.start(_METADATA, self._act(line))
        ((_, code),) = children.wait()
        if code:
            self.console.error(f"{self.results} has no metadata: exit status {code}")
            self.code = self.code or code

    def _summarise(self, *, is_partly: bool) -> None:
        tell, words = self.console.info, {Path(word).name: word for word in self.line.args}
        tell(f"Results out to: {self.results}")
        if self.skipped:
            tell(f"Packages skipped: {len(self.skipped)}")
            for name in self.skipped:
                tell(words[f"{name}.src.rpm"])
        tell(f"Packages built: {len(self.built)}")
        if self.built:
            some = "Some packages" if is_partly else "Packages"
            tell(f"{some} successfully built in this order:")
            for name in self.built:
                tell(words[f"{name}.src.rpm"])

    def _read(self, word: str) -> ChainLink:
        try:
            return read_link(_name(word), word)
        except (HeaderError, OSError) as error:
            raise InputError(f"{word}: {error}") from error

    def _note_built(self, link: ChainLink) -> None:
        packages = (self.results / link.name).glob("*.rpm")
        own = [path for path in packages if not path.name.endswith((".src.rpm", ".nosrc.rpm"))]
        try:
            link.provides, link.packages = read_built(own)
        except (HeaderError, OSError) as error:
            raise InputError(f"{self.results / link.name}: {error}") from error
        link.phase = LinkPhase.BUILT

    @as_owner()
    def _mark(self, link: ChainLink, mark: str) -> None:
        place = self.results / link.name
        make_directories(place)
        (place / mark).touch()

    @as_owner()
    def _unmark(self, link: ChainLink) -> None:
        (self.results / link.name / "success").unlink(missing_ok=True)


def _name(word: str) -> str:
    return Path(word).name.removesuffix(".src.rpm")


def _directories(results: Path) -> list[str]:
    return sorted(one.name for one in results.iterdir() if one.is_dir() and one.name != "repodata")


def _read_installed(place: Path) -> frozenset[str]:
    """The names of the packages that a build had."""
    try:
        with (place / "installed_pkgs.log").open(errors="replace") as log:
            lines = log.read(_LISTED_MAX).splitlines()
    except OSError:
        return frozenset()
    return frozenset(line.split(" ")[0].rsplit("-", 2)[0] for line in lines if line)
