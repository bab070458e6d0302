# SPDX-License-Identifier: GPL-2.0-or-later
"""``mock --shell`` and ``mock --chroot``: the user's own commands in the chroot."""

from __future__ import annotations

from dataclasses import replace

from mock_cloud.agent.engine import processes
from mock_cloud.agent.engine.buildroot import Buildroot
from mock_cloud.agent.engine.context import Job
from mock_cloud.agent.engine.relay import Program, on_pipes, on_terminal, terminal_of
from mock_cloud.wire.terminal_log import STDOUT


def chroot(job: Job, buildroot: Buildroot) -> int:
    """Run the request's command without input; its output goes to root.log and stdout.

    One word is a shell command, several are an argv, as with mock. The command's status.
    """
    words = job.request.args
    job.logs.info(f"Running in chroot: {words}")
    argv = ["/bin/sh", "-c", words[0]] if len(words) == 1 else list(words)
    place = _place(job, buildroot, default_cwd="/")
    with job.logs.state(f"chroot {words}"):
        sink, finish = job.logs.root_sink()

        def take(data: bytes) -> None:
            job.logs.terminal.write(STDOUT, data)
            sink(data)

        job.logs.show_output = False  # it is on the terminal already
        code = processes.run_command(argv, place, take)
        finish()
    return code


def shell(job: Job, buildroot: Buildroot) -> int:
    """A login shell, or the request's words as a shell command, with the user's input."""
    words = job.request.args
    argv = ["/bin/sh", "-c", " ".join(words)] if words else ["/bin/sh", "-i", "-l"]
    place = _place(job, buildroot, default_cwd=job.config.chroothome)
    with job.logs.state("shell"):
        if job.request.pty:
            size, term = terminal_of(job.request.pty)
            environment = {**place.environment, "TERM": term} if term else place.environment
            place = replace(place, environment=environment)
        program = Program(argv, place)
        if job.request.pty:
            root, write = buildroot.chroot.root, job.logs.terminal.write
            return on_terminal(program, root, place.uid, size, job.directory, write)
        return on_pipes(program, job.directory, job.logs.terminal.write)


def _place(job: Job, buildroot: Buildroot, *, default_cwd: str) -> processes.Place:
    cwd = job.request.cwd or default_cwd
    return buildroot.builder(cwd) if job.request.unpriv else buildroot.superuser(cwd)
