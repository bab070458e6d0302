# SPDX-License-Identifier: GPL-2.0-or-later
"""A cloud node that is a machine: QEMU boots its disk by firmware, boot loader and own kernel.

With KVM where that works, else emulated. QEMU's own network is behind the node's address as a
cloud's is behind a public one: the machine has another address, and whatever it connects to sees
the node's.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile

from tests.lab.clouds.machine import Hypervisor, MachinePlan, commands, report
from tests.lab.clouds.network import ip_batch
from tests.releases import enter

MEMORY_MIB = 1536
EMULATION = "tcg,thread=multi"
# Without vector instructions, which are slow to emulate and which programs take where they are: a
# machine's OpenSSL has 96 MB/s of SHA-256 so, and 17 with all that "max" has.
_PROCESSORS = {EMULATION: "qemu64"}
_PROBE_S = 5.0
_FIRMWARE = "usr/share/OVMF"
_SMBIOS = {
    "DMI_BIOS_VENDOR": ("0", "vendor"),
    "DMI_SYSTEM_MANUFACTURER": ("1", "manufacturer"),
    "DMI_SYSTEM_PRODUCT_NAME": ("1", "product"),
    "DMI_SYSTEM_SERIAL_NUMBER": ("1", "serial"),
    "DMI_SYSTEM_UUID": ("1", "uuid"),
}
_QMP_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = 90.0


def find_accelerator(system: Path) -> str:
    """QEMU's word for KVM if its firmware starts with it here, else for emulation.

    A device that can be opened is no proof: nested, some fail at the first instruction that the
    host has to emulate. What was found is kept beside `system` until this machine boots again.
    """
    note = system.parent / "accelerator"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    if note.is_file() and note.read_text().split()[0] == boot:
        return note.read_text().split()[1]
    works = os.access("/dev/kvm", os.R_OK | os.W_OK) and _starts_with_kvm(system)
    found = "kvm" if works else EMULATION
    note.write_text(f"{boot} {found}")
    return found


def _starts_with_kvm(system: Path) -> bool:
    argv = ["qemu-system-x86_64", "-machine", "q35", "-accel", "kvm", "-cpu", "max"]
    argv += ["-m", "256", "-nodefaults", "-display", "none", "-drive", _firmware()]
    with TemporaryFile() as log:
        process = enter.start(system, argv, output=log, directory="/", dies_with_caller=True)
        try:
            process.wait(_PROBE_S)
        except subprocess.TimeoutExpired:
            log.seek(0)
            return b"KVM internal error" not in log.read()
        finally:
            process.kill()
            process.wait()
    return False


def _firmware() -> str:
    return f"if=pflash,format=raw,readonly=on,file=/{_FIRMWARE}/OVMF_CODE_4M.fd"


def qemu_arguments(plan: MachinePlan, accelerator: str) -> list[str]:
    """QEMU's command line; paths are the same inside of `plan.system` and outside."""
    port, place = plan.port, plan.directory
    tables: dict[str, list[str]] = {}
    for name, value in plan.environment.items():
        if name in _SMBIOS:
            number, key = _SMBIOS[name]
            tables.setdefault(number, []).append(f"{key}={value}")
    argv = ["qemu-system-x86_64", "-machine", "q35", "-accel", accelerator]
    argv += ["-cpu", _PROCESSORS.get(accelerator, "max")]
    argv += ["-smp", "2", "-m", str(MEMORY_MIB), "-nodefaults", "-no-user-config"]
    argv += ["-display", "none", "-drive", _firmware()]
    argv += ["-drive", f"if=pflash,format=raw,file={place}/firmware.vars"]
    argv += ["-drive", f"if=virtio,format=raw,cache=unsafe,discard=unmap,file={plan.disk}"]
    argv += ["-netdev", f"user,id=net,ipv6=off,hostfwd=tcp:{port.address}:22-:22"]
    argv += ["-device", f"virtio-net-pci,netdev=net,mac={port.mac},romfile="]
    argv += ["-device", "virtio-rng-pci"]
    argv += ["-chardev", f"file,id=console,path={place}/console.log,append=on"]
    argv += ["-serial", "chardev:console"]
    argv += ["-qmp", f"unix:{place}/qmp,server=on,wait=off"]
    argv += ["-rtc", f"base={plan.clock or 'utc'}"]
    for number, values in tables.items():
        argv += ["-smbios", f"type={number},{','.join(values)}"]
    return argv


def _name_servers(system: Path) -> list[str]:
    """The IPv4 ones that QEMU in that tree asks; without a file it has none."""
    try:
        lines = (system / "etc/resolv.conf").read_text().splitlines()
    except FileNotFoundError:
        return []
    found = [line.split()[1] for line in lines if line.startswith("nameserver ")]
    return [address for address in found if ":" not in address]


class VirtualMachine(Hypervisor):
    """Runs QEMU until the machine powers off; its reboots are QEMU's own."""

    def _boot(self) -> str:
        plan = self._plan
        place, system = Path(plan.directory), Path(plan.system)
        # A cloud has name servers that answer. The lab has none, and QEMU says so for those that it
        # cannot reach: EL 9's cloud-init waits 80 s in each boot for one that is silent.
        ip_batch(f"route replace unreachable {address}" for address in _name_servers(system))
        variables = place / "firmware.vars"
        if not variables.exists():
            shutil.copyfile(system / _FIRMWARE / "OVMF_VARS_4M.fd", variables)
        with (place / "qemu.log").open("ab") as log:
            process = enter.start(
                system, qemu_arguments(plan, find_accelerator(system)), output=log, directory="/",
                binds={place: str(place)}, dies_with_caller=True,
            )  # fmt: skip
        try:
            report("booting", pid=process.pid)
            return self._wait(process)
        finally:
            process.kill()
            process.wait()

    def _wait(self, process: subprocess.Popen[bytes]) -> str:
        """How the machine ended: poweroff, stopped, killed."""
        ended = os.pidfd_open(process.pid)
        deadline_s = None
        try:
            while True:
                patience_s = None if deadline_s is None else deadline_s - time.monotonic()
                readable, _, _ = select.select([ended, commands], [], [], patience_s)
                if ended in readable:
                    break
                if commands not in readable:  # it was asked to power off, and did not
                    process.kill()
                    continue
                word = commands.readline()
                if word == b"stop\n":
                    deadline_s = time.monotonic() + _STOP_TIMEOUT_S
                    self._press_power_button()
                else:
                    process.kill()
                if word != b"crash\n":
                    self._stopping_since = time.monotonic()
        finally:
            os.close(ended)
        if self._stopping_since is not None:
            return "stopped"
        return "poweroff" if process.wait() == 0 else "killed"

    def _press_power_button(self) -> None:
        """By QEMU's monitor (QMP), which wants to be greeted first."""
        with suppress(OSError), socket.socket(socket.AF_UNIX) as monitor:
            monitor.settimeout(_QMP_TIMEOUT_S)
            monitor.connect(f"{self._plan.directory}/qmp")
            stream = monitor.makefile("rw")
            stream.readline()
            for command in ("qmp_capabilities", "system_powerdown"):
                stream.write(json.dumps({"execute": command}) + "\n")
                stream.flush()
                stream.readline()
