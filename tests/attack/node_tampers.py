# SPDX-License-Identifier: GPL-2.0-or-later
"""What root could leave on a node before the verdict: one script each, run on a local node.

Files are done all at once, since a verdict names every reason; what runs likewise. Each is
refused for `code`, of a subject that has `subject` in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Tamper:
    """One of them; `undo` takes it back. What runs is killed by the test."""

    what: str
    script: str
    code: str
    subject: str
    undo: str = ""


def _written(what: str, path: str, text: str = "x", mode: str = "0644") -> Tamper:
    """A new file, in a directory that may be new."""
    top = f"d=$(dirname {path}); while [ ! -d $(dirname $d) ]; do d=$(dirname $d); done"
    script = (
        f"{top}; [ -d $d ] || echo $d >> /var/cache/mock/made; mkdir -p $(dirname {path});"
        f" printf '%b' '{text}' > {path}; chmod {mode} {path}"
    )
    return Tamper(what, script, "file.unknown", path, f"rm -f {path}")


def _python(program: str) -> str:
    """A script that runs `program` by the node's python."""
    return f"python3 -c '{program}'"


def _left(program: str) -> str:
    """A script that leaves python running `program`; its pid is in /var/cache/mock/pids."""
    head = 'import os, sys, time; open("/var/cache/mock/pids", "a").write(f"{os.getpid()}\\n")'
    return f"(setsid python3 -c '{head}\n{program}' </dev/null >/dev/null 2>&1 &)"


ENV: Final = "/usr/bin/env"
_CAP: Final = "0100000280000000" + "00000000" * 3  # cap_setuid=ep: struct vfs_cap_data
_ACL: Final = (  # version 2; user::rw-, user:12:rw-, group::---, mask::rw-, other::---
    "0200000001000600ffffffff020006000c00000004000000ffffffff10000600ffffffff20000000ffffffff"
)
_XATTR: Final = 'import os; os.setxattr("{}", "{}", bytes.fromhex("{}"))'
_DEEP: Final = (
    'import os; os.chdir("/var/log")\nfor _ in range(30): os.mkdir("d" * 200); os.chdir("d" * 200)'
    '\nopen("evil", "w")'
)
_UNDO_DEEP: Final = (
    "cd /var/log; while [ -d ddd* ]; do mv ddd*/ddd* next 2>/dev/null; rm -rf ddd*;"
    " [ -e next ] && mv next $(printf 'd%.0s' $(seq 200)); done; true"
)

FILES: Final = (
    Tamper(
        "a name with a line feed, that looks like two",
        "printf x > /usr/lib/evil$'\\n'refused",
        "file.unknown",
        "/usr/lib/evil\nrefused",
        "rm /usr/lib/evil*",
    ),
    Tamper(
        "a name that a terminal shows backwards",
        "printf x > /usr/bin/$'\\xe2\\x80\\xae'hs.gnp",
        "file.unknown",
        "\u202ehs.gnp",
        "rm /usr/bin/*hs.gnp",
    ),
    Tamper(
        "a name that is no text",
        "printf x > /usr/lib/evil$'\\377'",
        "file.unknown",
        "/usr/lib/evil\udcff",
        "rm /usr/lib/evil*",
    ),
    _written("a setuid program where anyone may write", "/tmp/evil", mode="4755"),
    Tamper(
        "capabilities given to a packaged program",
        _python(_XATTR.format(ENV, "security.capability", _CAP)),
        "file.capabilities",
        ENV,
        _python(f'import os; os.removexattr("{ENV}", "security.capability")'),
    ),
    Tamper(
        "an access list that lets a user write accounts",
        _python(_XATTR.format("/etc/group", "system.posix_acl_access", _ACL)),
        "file.xattr",
        "/etc/group",
        _python('import os; os.removexattr("/etc/group", "system.posix_acl_access")')
        + "; chmod 644 /etc/group",
    ),
    Tamper(
        "a log that is one file with a program's configuration",
        "rm -f /var/log/lastlog; ln /etc/profile /var/log/lastlog",
        "file.linked",
        "/var/log/lastlog",
        "rm /var/log/lastlog; touch /var/log/lastlog",
    ),
    Tamper(
        "a path too long to be named",
        _python(_DEEP),
        "file.unknown",
        "/var/log/ddd",
        _UNDO_DEEP,
    ),
    Tamper(
        "a log of two terabytes, all of it a hole",
        "truncate -s 2T /var/log/btmp",
        "file.unreadable",
        "/var/log/btmp",
        "truncate -s 0 /var/log/btmp",
    ),
    Tamper(
        "a disk that everyone may read",
        "mknod /dev/evil b 7 0; chmod 666 /dev/evil",
        "file.volatile",
        "/dev/evil",
        "rm /dev/evil",
    ),
    Tamper(
        "a program among devices",
        f"cp {ENV} /dev/evil-program",
        "file.volatile",
        "/dev/evil-program",
        "rm /dev/evil-program",
    ),
    _written("udev rule in /run", "/run/udev/rules.d/99-evil.rules"),
    _written("PAM: a service", "/etc/pam.d/evil"),
    _written("PAM: an environment", "/etc/environment", "LD_PRELOAD=/x\\n"),
    _written("a credential of systemd's", "/run/credstore/evil"),
    _written("what sshd runs at a login", "/etc/ssh/sshrc", ":\\n"),
    _written("what sshd runs at root's login", "/root/.ssh/rc", ":\\n"),
    _written("environment of root's logins", "/root/.ssh/environment", "LD_PRELOAD=/x\\n"),
    _written("macros of rpm", "/usr/lib/rpm/macros.d/macros.evil", "%%__strip /tmp/evil\\n"),
    _written("modules for the kernel to load", "/etc/modules-load.d/evil.conf"),
    _written("an interpreter for the kernel", "/etc/binfmt.d/evil.conf"),
    _written("a policy of request-key's", "/etc/request-key.d/evil.conf"),
    _written("a path of Python's", "/usr/lib/python3/dist-packages/evil.pth", "import os\\n"),
)

_SLEEP: Final = "time.sleep(1000)"
_MEMFD: Final = (
    'fd = os.memfd_create("x"); os.write(fd, open("/usr/bin/sleep", "rb").read())\n'
    'os.execve(fd, ["/usr/sbin/sshd", "1000"], {})'
)
_DELETED: Final = (
    's = "/dev/shm/s"; open(s, "wb").write(open("/usr/bin/sleep", "rb").read())\n'
    "os.chmod(s, 0o755); fd = os.open(s, os.O_PATH); os.remove(s)\n"
    'os.execve(f"/proc/self/fd/{fd}", ["sshd", "1000"], {})'
)
# Always a new process: it forks and ends before anybody has looked at it.
_HOPPER: Final = (
    'while not os.path.exists("/var/cache/mock/stop"):\n  pid = os.fork()\n  if pid: os._exit(0)\n'
    "  time.sleep(0.0003)"
)
_THREAD: Final = (
    "import ctypes, threading\nthreading.Thread(target=time.sleep, args=(1000,)).start()\n"
    "ctypes.CDLL(None).pthread_exit(None)"
)
_TRACER: Final = (
    "import ctypes\npid = os.fork()\nif not pid: time.sleep(1000)\n"
    'open("/var/cache/mock/pids", "a").write(f"{pid}\\n")\n'
    "ctypes.CDLL(None).ptrace(0x4206, pid, 0, 0)\ntime.sleep(1000)"
)
_ANONYMOUS: Final = "import mmap\nkept = mmap.mmap(-1, 4096, prot=7)\ntime.sleep(1000)"
_UNSHARED: Final = "import ctypes\nctypes.CDLL(None).unshare({})\ntime.sleep(1000)"

RUNNING: Final = (
    Tamper("a program that never lay on a disk", _left(_MEMFD), "process.memfd", "memfd:x"),
    Tamper("a program that was removed", _left(_DELETED), "process.deleted", "/dev/shm/s"),
    Tamper("a process whose first thread has ended", _left(_THREAD), "process.unknown", "python3"),
    Tamper("a process under a tracer", _left(_TRACER), "process.traced", "python3"),
    Tamper("code that is in no file", _left(_ANONYMOUS), "process.anonymous-code", "python3"),
    Tamper(
        "a process in a user namespace of its own",
        _left(_UNSHARED.format("0x10000000")),
        "process.namespace",
        "python3",
    ),
    Tamper(
        "a process in another root",
        _left(f'os.chroot("/usr"); {_SLEEP}'),
        "process.root",
        "python3",
    ),
    Tamper(
        "an sshd with a library of its own",
        "cp /usr/lib/x86_64-linux-gnu/libz.so.1 /dev/shm/evil.so;"
        " (LD_PRELOAD=/dev/shm/evil.so setsid /usr/sbin/sshd"
        " -o ListenAddress=127.9.8.7:2299 -o PidFile=/var/cache/mock/sshd.pid"
        " </dev/null >/dev/null 2>&1)",
        "process.map",
        "/usr/sbin/sshd",
        "kill $(cat /var/cache/mock/sshd.pid); rm -f /dev/shm/evil.so",
    ),
    Tamper(
        "a known library where none belongs, by a daemon's environment",
        "(LD_PRELOAD=/usr/lib/x86_64-linux-gnu/libz.so.1 setsid sleep 1000"
        " </dev/null >/dev/null 2>&1 & echo $! >> /var/cache/mock/pids)",
        "process.environment",
        "/usr/bin/sleep",
    ),
    Tamper(
        "a daemon that looks for programs where nothing is measured",
        "(PATH=/var/cache/mock:$PATH setsid tail -f /dev/null"
        " </dev/null >/dev/null 2>&1 & echo $! >> /var/cache/mock/pids)",
        "process.environment",
        "/usr/bin/tail",
    ),
    Tamper(
        "a program under the name of a thread of the kernel",
        "(exec -a '[kworker/0:0]' setsid sleep 1000 </dev/null >/dev/null 2>&1 & echo $! >>"
        " /var/cache/mock/pids)",
        "process.unknown",
        "/usr/bin/sleep",
    ),
    Tamper(
        "a datagram socket that waits",
        _left(
            "import socket\nkept = socket.socket(type=socket.SOCK_DGRAM)\n"
            f'kept.bind(("127.9.8.7", 2298)); {_SLEEP}'
        ),
        "socket.unknown",
        "udp 127.9.8.7:2298",
    ),
    Tamper(
        "a network namespace that a mount keeps",
        "touch /run/net; unshare -n mount --bind /proc/self/ns/net /run/net",
        "mount.unknown",
        "/run/net",
        "umount /run/net; rm /run/net",
    ),
    Tamper(
        "a mount whose name has a line feed",
        "mkdir /run/a$'\\n'b; mount -t tmpfs x /run/a$'\\n'b",
        "mount.unknown",
        "/run/a\nb",
        "umount /run/a*b; rmdir /run/a*b",
    ),
    Tamper(
        "a second file system over devices",
        "mount -t tmpfs x /dev/pts",
        "mount.stacked",
        "/dev/pts",
        "umount /dev/pts",
    ),
    Tamper(
        "one process shown as another, by a mount",
        "(setsid sleep 1000 </dev/null >/dev/null 2>&1 & echo $! | tee -a /var/cache/mock/pids"
        " > /var/cache/mock/shown);"
        " sleep 0.1; mount --bind /proc/1 /proc/$(cat /var/cache/mock/shown)",
        "mount.unknown",
        "/proc/",
        "umount /proc/$(cat /var/cache/mock/shown); rm /var/cache/mock/shown",
    ),
)

HOPPER: Final = Tamper(
    "a process that is another one each time it is looked at",
    _left(_HOPPER),
    "process.unknown",
    "python3",
    "touch /var/cache/mock/stop; sleep 0.3; rm /var/cache/mock/stop",
)
