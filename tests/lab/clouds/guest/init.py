#!/usr/bin/python3 -IS
# SPDX-License-Identifier: GPL-2.0-or-later
"""The first process of a cloud node: runs cloud-init's stages, then sshd; reaps; powers off.

It understands what systemd's tools say to systemd: SIGRTMIN+4 and +5 (power off, reboot), and the
file that a scheduled shutdown is noted in. Its output is the console.
"""

import os
import signal
import time

POWER_OFF = signal.SIGRTMIN + 4  # systemd(1), "SIGNALS"
REBOOT = signal.SIGRTMIN + 5
RESCHEDULE = signal.SIGUSR1  # sent by our own shutdown(8)
SCHEDULE = "/run/systemd/shutdown/scheduled"
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
SSHD = ("/usr/sbin/sshd", "-D", "-e")
CLOUD_INIT = "/usr/bin/cloud-init"
STAGES = (("init", "--local"), ("init",), ("modules", "--mode=config"), ("modules", "--mode=final"))
NETWORK_STAGE = 1  # after it systemd's order lets sshd start
RESPAWN_S = 1.0
TERM_S = 1.0

_started_s = time.monotonic()


def say(text):
    print(f"[{time.monotonic() - _started_s:8.3f}] {text}", flush=True)


def spawn(argv):
    """Start a program with an empty signal mask; its pid."""
    return os.posix_spawn(argv[0], argv, {"PATH": PATH, "LANG": "C.UTF-8"}, setsigmask=())


def find_schedule():
    """(when in unix seconds, "poweroff" or "reboot") of the scheduled shutdown, or None."""
    try:
        with open(SCHEDULE, encoding="ascii") as stream:
            noted = dict(line.rstrip("\n").split("=", 1) for line in stream)
        return int(noted["USEC"]) / 1e6, noted["MODE"]
    except (OSError, ValueError, KeyError):
        return None


class Init:
    """The state of the boot: the running stage, sshd, and when to start it again."""

    def __init__(self, early_sshd):
        self.early_sshd = early_sshd
        self.next_stage = 0
        self.stage_pid = None
        self.sshd_pid = None
        self.sshd_due_s = None

    def run(self):
        """Until the node is to end; "poweroff" or "reboot"."""
        signals = {signal.SIGCHLD, POWER_OFF, REBOOT, RESCHEDULE}
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        self.start_stage()
        while True:
            info = signal.sigtimedwait(signals, self.patience_s())
            if info is not None and info.si_signo in (POWER_OFF, REBOOT):
                return "poweroff" if info.si_signo == POWER_OFF else "reboot"
            self.reap()
            if self.sshd_due_s is not None and time.monotonic() >= self.sshd_due_s:
                self.start_sshd()
            planned = find_schedule()
            if planned is not None and time.time() >= planned[0]:
                say("the scheduled shutdown is due")
                return planned[1]

    def patience_s(self):
        waits = [3600.0]
        planned = find_schedule()
        if planned is not None:
            waits.append(planned[0] - time.time())
        if self.sshd_due_s is not None:
            waits.append(self.sshd_due_s - time.monotonic())
        return max(0.0, min(waits))

    def start_stage(self):
        if self.next_stage == len(STAGES):
            if not self.early_sshd:
                self.start_sshd()
            say("boot finished")
            return
        words = STAGES[self.next_stage]
        say("cloud-init " + " ".join(words))
        self.stage_pid = spawn((CLOUD_INIT, *words))

    def start_sshd(self):
        self.sshd_due_s = None
        self.sshd_pid = spawn(SSHD)
        say("sshd started")

    def reap(self):
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.sshd_pid:
                say(f"sshd ended ({os.waitstatus_to_exitcode(status)})")
                self.sshd_due_s = time.monotonic() + RESPAWN_S
            elif pid == self.stage_pid:
                if status:
                    say(f"cloud-init ended with {os.waitstatus_to_exitcode(status)}")
                if self.next_stage == NETWORK_STAGE and self.early_sshd:
                    self.start_sshd()
                self.next_stage += 1
                self.start_stage()


def stop_everything():
    """SIGTERM, a moment, SIGKILL: to all processes of the node but this one."""
    for number, patience_s in ((signal.SIGTERM, TERM_S), (signal.SIGKILL, TERM_S)):
        try:
            os.kill(-1, number)
        except ProcessLookupError:
            return
        deadline_s = time.monotonic() + patience_s
        while time.monotonic() < deadline_s:
            try:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    time.sleep(0.01)
            except ChildProcessError:
                return


def main():
    for path in ("/run/sshd", "/run/lock", "/run/systemd", "/run/systemd/shutdown"):
        os.makedirs(path, exist_ok=True)
    os.chmod("/run/lock", 0o1777)
    say("booting")
    how = Init(os.environ.get("EARLY_SSHD") == "1").run()
    say("powering off" if how == "poweroff" else "rebooting")
    stop_everything()
    os.sync()
    # Late: what ctypes maps to call C would be executable memory without a file.
    import ctypes

    # linux/reboot.h: LINUX_REBOOT_CMD_POWER_OFF, LINUX_REBOOT_CMD_RESTART
    ctypes.CDLL(None).reboot(ctypes.c_int(0x4321FEDC if how == "poweroff" else 0x1234567))


if __name__ == "__main__":
    main()
