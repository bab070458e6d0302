# SPDX-License-Identifier: GPL-2.0-or-later
"""What the claim does on a host, in POSIX shell, since it comes before our toolkit.

It runs in the host's own shell with the host's own tools, which nothing is known about yet. So
its answers are believed in one way only: they can make us go away. A host that says "free" though
another builds there is found out by the attestation, which allows no process but ours.

The claim is the file WORKSPACE/claim: lease, owner, remote and seconds to live, a line each. Its
age is told by the host's own clock alone. Who reads or changes it holds a lock on the directory.
"""

from __future__ import annotations

from typing import Final

from mock_cloud.wire.layout import MOCK_LIBDIR, WORKSPACE

ROOM_KIB: Final = 2 << 20
"""2 GiB: a chroot of a plain package, its cache and its results."""

_COMMON: Final = (
    f"""
set -u
umask 077
LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH
W={WORKSPACE} M={MOCK_LIBDIR}
"""
    + r"""
refuse() { echo "refused"; echo "$*"; exit 0; }
need() { for tool; do command -v "$tool" >/dev/null || refuse "it lacks the program $tool"; done; }
lock() { exec 9<"$W" || exit 1; flock -w 10 9 || refuse "its claim is locked by another"; }
remains() {
    lease= owner= remote= ttl_s= left_s=0
    [ -f "$W/claim" ] || return 1
    { read -r lease; read -r owner; read -r remote; read -r ttl_s; } <"$W/claim"
    case $ttl_s in ''|*[!0-9]*) ttl_s=0;; esac
    left_s=$((ttl_s - $(date +%s) + $(stat -c %Y "$W/claim")))
}
tell() { printf '%s
' "$1" "$lease" "$owner" "$remote" "$left_s"; }
ours() {
    for entry in /proc/[0-9]*; do
        case $(readlink "$entry/exe" 2>/dev/null) in "$W"/toolkit/*) echo "${entry#/proc/}";; esac
    done
}
wipe() {
    round=0
    while pids=$(ours) && [ -n "$pids" ] && [ $round -lt 50 ]; do
        kill -9 $pids 2>/dev/null
        round=$((round + 1))
        sleep 0.1 2>/dev/null || sleep 1
    done
    # Only our engines make these directories in a chroot's place; the rest is its owner's.
    for chroot in "$M"/*; do
        [ ! -L "$chroot" ] || continue
        made=
        for tree in "$chroot"/overlay "$chroot"/mock.*; do
            [ -d "$tree" ] && [ ! -L "$tree" ] || continue
            rm -rf --one-file-system "$tree" || return 1
            made=1
        done
        [ -n "$made" ] || continue
        rmdir "$chroot/root" 2>/dev/null
        [ -e "$chroot/root" ] || rm -f "$chroot/buildroot.lock"
        rmdir "$chroot" 2>/dev/null
    done
    for entry in "$W"/* "$W"/.[!.]*; do
        case $entry in "$W/claim") continue;; esac
        rm -rf --one-file-system "$entry" || return 1
    done
}
"""
)

_FIT: Final = r"""
arch=$1 room_kib=$2
[ "$(id -u)" = 0 ] || refuse "user $(id -un) is not root there"
need uname flock stat date df find readlink tar gzip mv
[ "$(uname -m)" = "$arch" ] || refuse "it is of architecture $(uname -m), not $arch"
place=$W
[ -d "$W" ] || place=/var/lib
free_kib=$(df -Pk "$place" | tail -n 1 | { read -r _ _ _ free _; echo "$free"; })
[ "$free_kib" -ge "$room_kib" ] ||
    refuse "it has $((free_kib / 1024)) MiB free below $place, not $((room_kib / 1024))"
"""

CHECK: Final = (
    _COMMON
    + _FIT
    + r"""
[ -d "$W" ] || { echo free; exit 0; }
lock
if remains && [ "$left_s" -gt 0 ]; then tell taken; else echo free; fi
"""
)
"""Arguments: architecture, room in KiB."""

CLAIM: Final = (
    _COMMON
    + _FIT
    + r"""
id=$3 us=$4 from=$5 life_s=$6
mkdir -p "$W" && [ ! -L "$W" ] && chmod 700 "$W" || refuse "$W cannot be made there"
lock
if remains && [ "$lease" != "$id" ] && [ "$left_s" -gt 0 ]; then tell taken; exit 0; fi
[ "$lease" = "$id" ] || wipe || refuse "what an earlier lease left cannot be removed"
printf '%s\n' "$id" "$us" "$from" "$life_s" >"$W/claim.new" && mv -f "$W/claim.new" "$W/claim" ||
    refuse "the claim cannot be written"
remains && tell claimed
"""
)
"""Arguments: architecture, room in KiB, lease, owner, remote, seconds to live."""

LOOK: Final = (
    _COMMON
    + r"""
[ -d "$W" ] || { echo free; exit 0; }
lock
if remains && [ "$left_s" -gt 0 ]; then tell taken; else echo free; fi
"""
)

RELEASE: Final = (
    _COMMON
    + r"""
[ -d "$W" ] || { echo free; exit 0; }
lock
remains && [ "$lease" = "$1" ] || { echo free; exit 0; }
wipe || refuse "our files cannot all be removed"
rm -f "$W/claim" && echo free
"""
)
"""Argument: the lease. A claim of another lease, and all that is there, is left alone."""
