# SPDX-License-Identifier: GPL-2.0-or-later
"""python -m tests.lab: makes and serves the lab's parts."""

from __future__ import annotations

import argparse
import signal
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from mock_cloud.errors import MockCloudError
from tests.lab import steps
from tests.lab.layout import BOOTABLE, TODAY, Lab, default_lab, foreign_lab, generation_lab, locked


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description=__doc__)
    parser.add_argument("--dir", type=Path, default=default_lab().root, help="default: .lab")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("prepare", help="install what is missing on this machine")
    step = verbs.add_parser("step", help="run a command, its output in a file, and say so")
    step.add_argument("log", help="name of the file below the lab's directory log")
    step.add_argument("title")
    step.add_argument("command", nargs="+")
    build = verbs.add_parser("build", help="make the distribution and the node's tree")
    which = build.add_mutually_exclusive_group()
    which.add_argument("--arch", help="another architecture's, of Debian's packages, with qemu")
    which.add_argument("--generation", choices=BOOTABLE, help="another, with systemd")
    pack = verbs.add_parser("pack", help="the distribution and the tree alone, in Debian's tree")
    pack.add_argument("generation", choices=BOOTABLE)
    demo = verbs.add_parser("demo", help="build a package on an attested node; refuse another")
    demo.add_argument("--srpm", type=Path, help="the user's own, instead of GNU hello")
    verbs.add_parser("demo-stop", help="end what the demonstration left running")
    demo_trust = verbs.add_parser("demo-trust", help="owners' machines, compared; a liar found")
    demo_trust.add_argument("--srpm", type=Path, help="the user's own, instead of GNU hello")
    demo_survive = verbs.add_parser("demo-survive", help="a build that is cut off and killed")
    demo_survive.add_argument("--srpm", type=Path, help="the user's own; %%build takes 10 s")
    demo_ec2 = verbs.add_parser("demo-ec2", help="the same on an instance of EC2's API")
    demo_ec2.add_argument("--srpm", type=Path, help="the user's own, instead of GNU hello")
    demo_systemd = verbs.add_parser("demo-systemd", help="the same on machines with systemd")
    demo_systemd.add_argument("--srpm", type=Path, help="the user's own, instead of a unit's")
    serve = verbs.add_parser("serve", help="serve the distribution over HTTP until interrupted")
    serve.add_argument("--port", type=int, default=8999)
    serve.add_argument("--etc", type=Path, help="where mock's configuration goes")
    serve.add_argument("--hours", type=float, help="end after so long")
    cloud = verbs.add_parser("cloud", help="run a cloud of local nodes until interrupted")
    cloud.add_argument("name", choices=("ec2", "openstack"))
    cloud.add_argument("--etc", type=Path, help="where mock's configuration and a remote go")
    cloud.add_argument("--generation", choices=BOOTABLE, help="virtual machines, with systemd")
    for verb in verbs.choices.values():  # before or after the verb, as people type it
        verb.add_argument("--dir", type=Path, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    return parser


def _build(lab: Lab) -> None:
    from tests.lab import dist, manifest, node

    parts = (
        ("the lab's RPM distribution", dist.build),
        ("the node's tree", node.build),
        ("the signed manifest of the node's tree", manifest.build),
    )
    for what, make in parts:
        with steps.step(what), locked(lab):
            make(lab)


def _build_kind(lab: Lab, options: argparse.Namespace) -> None:
    if options.arch:
        from tests.lab.foreign import emulated

        with emulated(options.arch):
            _build(foreign_lab(lab, options.arch))
    elif options.generation:
        from tests.lab import bootable

        bootable.build(generation_lab(lab, options.generation))
    else:
        _build(lab)


def _pack(lab: Lab) -> None:
    from tests.lab import dist, node

    dist.build(lab)
    node.build(lab)


def _serve(lab: Lab, port: int, etc: Path, hours: float | None) -> None:
    from tests.lab import chroots
    from tests.lab.http import FileServer

    with FileServer({"/dist": lab.dist}, port=port) as server:
        written = chroots.write(lab, etc, repository_url=f"{server.url}/dist")
        print(f"lab: {server.url}/dist; mock --configdir {written.path}", flush=True)
        if hours is not None:
            signal.setitimer(signal.ITIMER_REAL, hours * 3600)
        with suppress(KeyboardInterrupt):
            signal.sigwait({signal.SIGINT, signal.SIGTERM, signal.SIGALRM})


def _demonstrate(lab: Lab, options: argparse.Namespace) -> None:
    from tests.lab import demo, demo_ec2, demo_survive, demo_systemd, demo_trust

    match options.verb:
        case "demo":
            demo.perform(lab, options.srpm, lab.root / "demo")
        case "demo-stop":
            demo.stop(lab, lab.root / "demo")
        case "demo-trust":
            demo_trust.perform(lab, options.srpm, lab.root / "demo-trust")
        case "demo-survive":
            demo_survive.perform(lab, options.srpm, lab.root / "demo-survive")
        case "demo-systemd":
            demo_systemd.perform(generation_lab(lab, TODAY), options.srpm)
        case _:
            demo_ec2.perform(lab, options.srpm)


def _perform(lab: Lab, options: argparse.Namespace) -> None:
    """Do what the verb says; imports are late, since `prepare` runs before there is a lab."""
    match options.verb:
        case "prepare":
            from tests.lab.prepare import prepare

            prepare(lab.log("packages"))
        case "step":
            with steps.step(f"{options.title} ({lab.log(options.log)})"):
                steps.run_logged(options.command, lab.log(options.log))
        case "build":
            _build_kind(lab, options)
        case "pack":
            _pack(replace(lab, generation=options.generation))
        case "demo" | "demo-stop" | "demo-trust" | "demo-survive" | "demo-ec2" | "demo-systemd":
            _demonstrate(lab, options)
        case "cloud":
            from tests.lab.clouds import serve

            etc = options.etc or lab.root / "etc" / options.name
            kind = generation_lab(lab, options.generation) if options.generation else lab
            serve.serve(options.name, kind, etc.absolute())
        case "serve":
            etc = options.etc or lab.root / "etc" / "mock"
            _serve(lab, options.port, etc.absolute(), options.hours)


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        _perform(Lab(options.dir.absolute()), options)
    except MockCloudError as error:
        print(f"lab: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"lab: {error.hint}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
