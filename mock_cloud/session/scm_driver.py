# SPDX-License-Identifier: GPL-2.0-or-later
"""Run by mock's own Python: mock's scm module checks sources out, as the user who runs this.

Arguments: the directory of mock's program, and a file for the answer. Standard input has mock's
options as JSON. It imports nothing of mock_cloud.
"""

import json
import logging
import sys
from pathlib import Path


def main() -> None:
    """Print where the sources and the spec file are, as a JSON list, into the answer's file."""
    sys.path.insert(0, sys.argv[1])
    options = json.load(sys.stdin)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    from mockbuild import scm  # type: ignore[import-not-found]

    worker = scm.scmWorker(logging.getLogger(), options, options["macros"])
    worker.get_sources()
    found = worker.prepare_sources()
    Path(sys.argv[2]).write_text(json.dumps([str(path) for path in found]))


if __name__ == "__main__":
    main()
