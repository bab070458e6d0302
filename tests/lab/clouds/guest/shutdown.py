#!/usr/bin/python3 -IS
# SPDX-License-Identifier: GPL-2.0-or-later
"""shutdown(8), poweroff(8), reboot(8) and halt(8) as systemd has them, for a node without it.

A time is noted where systemd-logind notes it, and the first process holds the timer: nothing
of this program stays. ``-f`` asks the kernel itself.
"""

import os
import re
import signal
import sys
import time

SCHEDULE = "/run/systemd/shutdown/scheduled"
SIGNALS = {"poweroff": signal.SIGRTMIN + 4, "reboot": signal.SIGRTMIN + 5}
COMMANDS = {"poweroff": 0x4321FEDC, "reboot": 0x1234567}  # linux/reboot.h
MODES = {"-P": "poweroff", "--poweroff": "poweroff", "-h": "poweroff", "-H": "poweroff",
         "--halt": "poweroff", "-r": "reboot", "--reboot": "reboot"}  # fmt: skip
IGNORED = ("--no-wall", "-q", "-k", "-w", "-d", "-n")


def parse_time(text, now_s):
    """Unix seconds of "now", "+MINUTES" or "HH:MM". ValueError."""
    if text == "now":
        return now_s
    if re.fullmatch(r"\+?\d{1,6}", text):
        return now_s + 60 * int(text.lstrip("+"))
    hours, minutes = re.fullmatch(r"(\d\d?):(\d\d)", text).groups()
    today = time.localtime(now_s)
    parts = (*today[:3], int(hours), int(minutes), 0, 0, 0, -1)
    due_s = time.mktime(parts)
    return due_s if due_s > now_s else due_s + 86400


def schedule(mode, due_s):
    os.makedirs(os.path.dirname(SCHEDULE), exist_ok=True)
    part = SCHEDULE + ".part"
    with open(part, "w", encoding="ascii") as stream:
        stream.write(f"USEC={int(due_s * 1e6)}\nWARN_WALL=1\nMODE={mode}\n")
    os.rename(part, SCHEDULE)
    os.kill(1, signal.SIGUSR1)
    when = time.strftime("%a %Y-%m-%d %H:%M:%S %Z", time.localtime(due_s))
    print(f"Shutdown scheduled for {when}, use 'shutdown -c' to cancel.", file=sys.stderr)


def cancel():
    if os.path.exists(SCHEDULE):
        os.unlink(SCHEDULE)
    os.kill(1, signal.SIGUSR1)


def now(mode, force):
    if force:
        os.sync()
        import ctypes

        ctypes.CDLL(None).reboot(ctypes.c_int(COMMANDS[mode]))
    os.kill(1, SIGNALS[mode])


def shutdown(words):
    mode, when = "poweroff", None
    for word in words:
        if word == "-c":
            return cancel()
        if word in MODES:
            mode = MODES[word]
        elif word.startswith("-") and word not in IGNORED:
            sys.exit(f"shutdown: unknown option {word}")
        elif not word.startswith("-") and when is None:
            when = word
    now_s = time.time()
    try:
        due_s = parse_time(when or "+1", now_s)
    except (AttributeError, ValueError):
        sys.exit(f"shutdown: failed to parse time specification: {when}")
    return now(mode, False) if due_s <= now_s else schedule(mode, due_s)


def main():
    name = os.path.basename(sys.argv[0])
    if name == "shutdown":
        shutdown(sys.argv[1:])
    else:
        now("reboot" if name == "reboot" else "poweroff", "-f" in sys.argv or "--force" in sys.argv)


if __name__ == "__main__":
    main()
