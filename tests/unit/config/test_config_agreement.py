# SPDX-License-Identifier: GPL-2.0-or-later
"""Our loader and mock's own agree on every configuration of mock-core-configs.

Needs a checkout of mock: MOCK_CLOUD_TEST_MOCK_SOURCE names it, MOCK_CLOUD_TEST_MOCK_PYTHON the
Python that has mock's dependencies (default: this one).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mock_cloud.config.chroots import load_config_opts
from mock_cloud.config.defaults import ConfigOpts
from mock_cloud.errors import ConfigError

SOURCE = os.environ.get("MOCK_CLOUD_TEST_MOCK_SOURCE", "")
PYTHON = os.environ.get("MOCK_CLOUD_TEST_MOCK_PYTHON", sys.executable)

pytestmark = [
    pytest.mark.skipif(not SOURCE, reason="needs a mock checkout: set MOCK_CLOUD_TEST_MOCK_SOURCE"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # some configurations' escapes
]

# Different by nature: a random number, the version's spelling, where mock is installed.
HOST_BOUND = {"mock_run_uuid", "version", "plugin_dir", "__jinja_expand", "_aliases"}

UPSTREAM = """
import json, sys, warnings
warnings.simplefilter("ignore")
source = sys.argv[1]
sys.argv = [source + "/mock/py/mock.py"]
sys.path.insert(0, source + "/mock/py")
try:
    from mockbuild import config
except ImportError as error:
    sys.exit(f"MISSING {error}")
names = json.load(sys.stdin)
show = lambda value: json.dumps(value, default=lambda it: type(it).__name__, sort_keys=True)
out = {}
plugins = list(config.PLUGIN_LIST)
for name in names:
    config.PLUGIN_LIST[:] = plugins  # which loading extends: a second load would differ
    out[name] = []
    try:
        opts = config.simple_load_config(name, source + "/mock-core-configs/etc/mock")
    except config.exception.ConfigError:
        continue
    for expand in (False, True):
        opts["__jinja_expand"] = expand
        out[name].append({key: show(opts[key]) for key in sorted(opts)})
json.dump(out, sys.stdout)
"""


def _show(value: Any) -> str:
    return json.dumps(value, default=lambda it: type(it).__name__, sort_keys=True)


def _ours(name: str, config_path: Path) -> list[dict[str, str]]:
    opts: ConfigOpts = load_config_opts(name, config_path)
    stages = []
    for expand in (False, True):
        opts["__jinja_expand"] = expand
        stages.append({key: _show(opts[key]) for key in sorted(opts)})
    return stages


def _comparable(shown: dict[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {k: v for k, v in shown.items() if k not in HOST_BOUND}
    values["config_paths"] = sorted(json.loads(values["config_paths"]))  # a set's order in mock
    # mock takes its plugins' __init__.py for a plugin.
    plugins, plugin_conf = json.loads(values["plugins"]), json.loads(values["plugin_conf"])
    values["plugins"] = [name for name in plugins if name != "__init__"]
    values["plugin_conf"] = {k: v for k, v in plugin_conf.items() if "__init__" not in k}
    return values


def test_every_configuration_loads_as_in_mock() -> None:
    config_path = Path(SOURCE) / "mock-core-configs/etc/mock"
    special = {"site-defaults", "chroot-aliases"}
    names = sorted(path.stem for path in config_path.glob("*.cfg") if path.stem not in special)
    names += sorted(str(path) for path in config_path.glob("eol/*.cfg"))
    assert len(names) > 200
    done = subprocess.run(
        [PYTHON, "-c", UPSTREAM, SOURCE],
        input=json.dumps(names),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if "MISSING" in done.stderr:
        pytest.skip(f"{PYTHON} lacks mock's dependencies: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr[-2000:]
    upstream = json.loads(done.stdout)
    different, refused, equal = [], [], 0
    for name in names:
        if not upstream[name]:
            refused.append(name)
            with pytest.raises(ConfigError):
                load_config_opts(name, config_path)
            continue
        for theirs, ours in zip(upstream[name], _ours(name, config_path), strict=True):
            mine, wanted = _comparable(ours), _comparable(theirs)
            equal += mine == wanted
            if mine != wanted:
                keys = {k for k in mine | wanted if mine.get(k) != wanted.get(k)}
                different.append((name, sorted(keys)))
    print(f"{len(names)} configurations: {equal} raw or expanded equal, both refuse {refused}")
    assert not different, different[:5]
    assert equal == 2 * (len(names) - len(refused))
