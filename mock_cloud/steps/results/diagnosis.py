# SPDX-License-Identifier: GPL-2.0-or-later
"""Why a build failed: its kind, the last useful lines of the log that matters, what to try next.

Logs are a node's words: read in bounds from where this job's begin, never through a link, and made
safe to show. They choose words for people, and nothing else.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from mock_cloud.cloud.jobs import JobRecord
from mock_cloud.progress.printers import FailureReport
from mock_cloud.report.logs import read_end
from mock_cloud.steps.context import Build
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.replies import Cause, JobEnd

_TAIL_MAX: Final = 1 << 20
_LINES: Final = 12
_LINE_MAX: Final = 400
_LAST: Final = 50
_TIMEOUT: Final = 11
_PACKAGE_MANAGER_FAILED: Final = 30
_ROOT_LOG: Final = "root.log"
_BUILD_LOG: Final = "build.log"

_STAGE: Final = re.compile(r"^error: Bad exit status from \S+ \((%\w+)\)")
_PREFIX: Final = re.compile(r"^(?:DEBUG|INFO|WARNING|ERROR) \S+:\d+:\s+")
_FULL: Final = re.compile(r"No space left on device|Disk quota exceeded")
_DEPENDENCY: Final = re.compile(
    r"nothing provides|No match(?:ing package)?\b|Unable to find a match|Failed build dependencies"
    r"|is needed by|conflicting requests|Could not resolve host|Cannot download|No more mirrors"
)
_PACKAGING: Final = re.compile(
    r"Installed \(but unpackaged\)|^error: File not found|Arch dependent"
)
_ERROR: Final = re.compile(
    r"\b(?:fatal )?error:|undefined reference|No such file or directory|command not found"
    r"|^FAIL|\bFAILED\b|^Traceback \(|Segmentation fault|Assertion .* failed",
)
_NOISE: Final = re.compile(r"^(?:RPM build (?:errors|warnings):|Child return code was|\s*$)")


@dataclass(frozen=True, slots=True)
class _Kind:
    message: str
    hint: str


_LOOK: Final = "to look around, build with --no-cleanup-after, then mock --remote … --shell"
_KINDS: Final = {
    "memory": _Kind(
        "the kernel killed a process of this build for lack of memory",
        "a larger node ([node.ARCH] sizes), or fewer at once: --define '_smp_mflags -j1'",
    ),
    "memory-guess": _Kind(
        "a process on the node was killed for lack of memory; whether it was this build's is a"
        " guess, for the node has no control groups to tell",
        "the log says more; else a larger node, or fewer at once: --define '_smp_mflags -j1'",
    ),
    "silence": _Kind(
        "the job printed nothing for as long as [build] output_timeout allows, and was ended",
        "the last lines say what waited; a test that is silent for long needs a longer one",
    ),
    "timeout": _Kind(
        "the build took longer than rpmbuild_timeout allows", "a longer --rpmbuild_timeout, or 0"
    ),
    "disk": _Kind(
        "the node's disk is full", "more room: volume_gib or disk_mib in the remote's file"
    ),
    "dependency": _Kind(
        "packages that the build needs cannot be installed",
        "is there a repository that has them? --enablerepo, --addrepo; or BuildRequires is wrong",
    ),
    "sources": _Kind("%prep failed: sources or patches", f"does each patch apply? {_LOOK}"),
    "compile": _Kind("%build failed", _LOOK),
    "install": _Kind("%install failed", _LOOK),
    "test": _Kind("%check failed: the package's own tests", f"--nocheck goes without; {_LOOK}"),
    "packaging": _Kind(
        "the spec's %files and what was installed differ", "add the files to %files, or remove them"
    ),
    "other": _Kind("it failed in another way", "the resultdir's logs say more"),
}  # fmt: skip
_STAGES: Final = {
    "%prep": "sources", "%generate_buildrequires": "dependency", "%conf": "compile",
    "%build": "compile", "%install": "install", "%check": "test",
}  # fmt: skip
_CAUSES: Final = {
    Cause.MEMORY: "memory", Cause.MEMORY_GUESS: "memory-guess", Cause.SILENCE: "silence",
}  # fmt: skip


def explain(build: Build, end: JobEnd) -> None:
    """Say it."""
    why = explain_failure(build.row, end)
    if why is not None:
        build.console.explain(why)


def explain_failure(job: JobRecord, end: JobEnd) -> FailureReport | None:
    """What is known of a job that failed by itself; None where that is nothing."""
    if not end.exit:
        return None
    build, root = _read(job, _BUILD_LOG), _read(job, _ROOT_LOG)
    kind = _find_kind(end, build, root)
    is_roots = kind == "dependency" and not any(map(_DEPENDENCY.search, build))
    log, lines = (_ROOT_LOG, root) if is_roots or not build else (_BUILD_LOG, build)
    useful = _useful(lines, _DEPENDENCY if kind == "dependency" else _ERROR)
    if not useful and kind == "other":
        return None
    words = _KINDS[kind]
    path = _place(job) / log
    return FailureReport(kind, end.exit, words.message, words.hint, str(path), tuple(useful))


def _find_kind(end: JobEnd, build: list[str], root: list[str]) -> str:
    """By what the node knows, else by what the logs say."""
    stages = [found[1] for found in map(_STAGE.match, build) if found]
    last = (*build[-_LAST:], *root[-_LAST:])
    kinds = (
        (_CAUSES.get(end.cause, "other"), end.cause in _CAUSES),
        ("timeout", end.exit == _TIMEOUT),
        ("disk", any(map(_FULL.search, last))),
        ("dependency", end.exit == _PACKAGE_MANAGER_FAILED),
        (_STAGES.get((stages or [""])[-1], "other"), bool(stages)),
        ("packaging", any(map(_PACKAGING.search, build))),
        ("dependency", any(map(_DEPENDENCY.search, last))),
    )
    return next((kind for kind, is_so in kinds if is_so), "other")


def _useful(lines: list[str], telling: re.Pattern[str]) -> list[str]:
    """The last lines before rpm's own words on the failure, and the first that tells of an error.

    With several at once (make -j) what failed first is far above.
    """
    ends = [number for number, line in enumerate(lines) if _STAGE.match(line)]
    if ends:
        lines = lines[: ends[-1]]
    last = [line for line in lines if not _NOISE.match(line)]
    tail = last[-_LINES:]
    told = [line for line in last if telling.search(line)]
    if told and told[0] not in tail:
        tail = [told[0], "…", *tail[-(_LINES - 2) :]]
    return [line if len(line) <= _LINE_MAX else f"{line[:_LINE_MAX]}…" for line in tail]


def _place(job: JobRecord) -> Path:
    """Where the logs are: of a chain, those of the package that failed."""
    place = Path(job.resultdir)
    failed = [place / name for name in job.packages if (place / name / "fail").is_file()]
    return (failed or [place / name for name in job.packages[-1:]] or [place])[0]


def _read(job: JobRecord, name: str) -> list[str]:
    """The end of this job's part of a log; without the place in mock's code that wrote a line."""
    path = _place(job) / name
    begin = job.logs.get(str(path.relative_to(job.resultdir)), 0)
    return [_PREFIX.sub("", line) for line in read_end(path, begin, _TAIL_MAX)]
