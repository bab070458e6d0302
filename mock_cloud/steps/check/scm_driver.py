# SPDX-License-Identifier: GPL-2.0-or-later
"""Run by mock's own Python: mock's scm module checks sources out, as the user who runs this.

Arguments: the directory of mock's program, and a file for the answer. Standard input has mock's
options as JSON. It imports nothing of mock_cloud.
"""

import json
import logging
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


class _CommandFailed(Exception):
    """A command that mock's scm module calls: its words, exit status and output."""


def do(
    command: Sequence[str], shell: bool = False, cwd: str = ".", env: Mapping[str, str] = os.environ
) -> None:
    """In place of mock's, which ends at the end of one stream and may lose the other's last words.

    Raises CommandFailed, and OSError as mock's does.
    """
    ended = subprocess.run(
        command, shell=shell, cwd=cwd, env=env, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    if ended.returncode:
        words = ended.stdout.decode(errors="replace").splitlines()
        raise _CommandFailed(shlex.join(command), ended.returncode, words[-5:])


def main() -> None:
    """Write where the sources and the spec file are, as a JSON list, into the answer's file.

    Where a command failed that mock's module calls: its words, status and output. For what else
    goes wrong there is no answer.
    """
    sys.path.insert(0, sys.argv[1])
    options = json.load(sys.stdin)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    from mockbuild import scm  # type: ignore[import-not-found]

    scm.util.do = do
    answer = Path(sys.argv[2])
    try:
        worker = scm.scmWorker(logging.getLogger(), options, options["macros"])
        worker.get_sources()
        found = worker.prepare_sources()
    except _CommandFailed as error:
        answer.write_text(json.dumps(error.args))
        sys.exit(1)
    answer.write_text(json.dumps([str(path) for path in found]))


if __name__ == "__main__":
    main()
