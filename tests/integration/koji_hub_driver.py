# SPDX-License-Identifier: GPL-2.0-or-later
"""Koji's own importer and policies, run on a directory; what its database would say is made up.

Runs under a Python that has what kojihub imports. argv: a JSON file with `koji` (a checkout),
`plugin`, `conf`, `topdir`, `metadata`, `files`, and `spoil` (a name below the build's directory).
Prints what happened as JSON.
"""

import importlib.util
import json
import os
import shutil
import sys
import types

ORDER = json.load(open(sys.argv[1]))  # noqa: SIM115
sys.path.insert(0, ORDER["koji"])

import koji  # noqa: E402
import koji.plugin  # noqa: E402
import koji.policy  # noqa: E402
import kojihub.kojihub as hub  # noqa: E402

RULES = {
    "cg_import": ["all :: allow"],
    "tag": ["mock_cloud_verified :: allow", "all :: deny it is not verified"],
}
SAID = {"components": [], "unmatched": 0, "rpms": [], "inserted": []}
BUILD = {}


class BuildRoot:
    """Keeps what the importer would write."""

    id = 1

    def cg_new(self, info):
        SAID["buildroot"] = {key: value for key, value in info.items() if key != "extra"}

    def setList(self, packages):  # noqa: N802
        SAID["components"] = [one["name"] for one in packages]

    def updateArchiveList(self, archives):  # noqa: N802
        pass

    def setTools(self, tools):  # noqa: N802
        SAID["tools"] = [one["name"] for one in tools]


class Insert:
    """No database."""

    def __init__(self, table, data=None):
        SAID["inserted"].append(table)
        if table == "rpminfo":
            SAID["rpms"].append("%(name)s-%(version)s-%(release)s.%(arch)s" % data)

    def execute(self):
        pass


def new_build(data):
    state = koji.BUILD_STATES["COMPLETE"]
    known = dict(data, id=1, build_id=1, state=state, volume_name="DEFAULT")
    BUILD.update(known, nvr="%(name)s-%(version)s-%(release)s" % data)
    return 1


def get_rpm(component, strict=False):
    return {**component, "payloadhash": component["sigmd5"], "draft": False}


def stand_in():
    """For the database, and for nothing else."""
    hub.context._threadclear()
    hub.context.opts = {}
    hub.context.session = types.SimpleNamespace(user_id=1, assertPerm=lambda name: None)
    hub.lookup_name = lambda table, info, strict=False, create=False: {"id": 1, "name": info}
    hub.assert_cg = lambda cg: None
    hub.check_volume_policy = lambda data, strict=False: None
    hub.get_build = lambda info, strict=False: dict(BUILD) or None
    hub.new_build = new_build
    hub.new_typed_build = lambda build, kind: None
    hub.get_rpm = get_rpm
    hub.reject_draft = lambda info, is_rpm=False: None
    hub.nextval = lambda name: 1
    hub.InsertProcessor = Insert
    hub.BuildRoot = BuildRoot
    hub.add_rpm_sig = lambda number, signature: None
    hub.ensure_volume_symlink = lambda build: None
    import kojihub

    kojihub.get_build = hub.get_build


def load_plugin():
    """As the hub's own tracker and `register_plugin` do, and policies as `get_policy` does."""
    spec = importlib.util.spec_from_file_location("mock_cloud_hub", ORDER["plugin"])
    plugin = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plugin)
    plugin.CONFIG_FILE = ORDER["conf"]
    for one in vars(plugin).values():
        for kind in getattr(one, "callbacks", ()):
            koji.plugin.register_callback(kind, one)
    tests = koji.policy.findSimpleTests([vars(hub), vars(koji.policy), vars(plugin)])
    hub.context.policy = {
        name: koji.policy.SimpleRuleSet(rules, tests) for name, rules in RULES.items()
    }


def upload(metadata):
    place = os.path.join(koji.pathinfo.work(), "upload")
    for one in metadata["output"]:
        target = os.path.join(place, one.get("relpath", ""))
        os.makedirs(target, exist_ok=True)
        source = os.path.join(ORDER["files"], one.get("relpath", ""), one["filename"])
        shutil.copy(source, target)


def main():
    koji.pathinfo.topdir = ORDER["topdir"]
    os.makedirs(koji.pathinfo.work())
    stand_in()
    load_plugin()
    with open(ORDER["metadata"]) as stream:
        metadata = json.load(stream)
    upload(metadata)
    importer = hub.CG_Importer()
    try:
        importer.do_import(metadata, "upload")
    except Exception as error:
        SAID["error"] = "%s: %s" % (type(error).__name__, error)
        print(json.dumps(SAID))
        return
    place = koji.pathinfo.build(BUILD)
    found = [os.path.relpath(os.path.join(top, name), place)
             for top, _, names in os.walk(place) for name in names]  # fmt: skip
    SAID["files"] = sorted(found)
    SAID["tag"] = hub.check_policy("tag", {"build": 1})
    if ORDER.get("spoil"):
        path = os.path.join(place, ORDER["spoil"])
        with open(path, "r+b") as stream:
            stream.seek(-1, os.SEEK_END)
            last = stream.read(1)
            stream.seek(-1, os.SEEK_END)
            stream.write(bytes([last[0] ^ 1]))
        SAID["tag_of_spoiled"] = hub.check_policy("tag", {"build": 1})
    SAID["work"] = sorted(os.listdir(koji.pathinfo.work()))
    print(json.dumps(SAID))


main()
