# SPDX-License-Identifier: GPL-2.0-or-later
"""Local nodes, real ones: namespaces, overlay, the image's own sshd, OpenSSH's client."""

import multiprocessing
import os
import signal
import stat
import time
from pathlib import Path

import pytest

from mock_cloud.cloud.leased import LeasedNode
from mock_cloud.cloud.local.provider import LocalProvider
from mock_cloud.cloud.provider import Bootstrap, InjectedFile, InjectedType, NodeOrder
from mock_cloud.errors import CloudError, ConfigError
from mock_cloud.settings import LocalSettings
from mock_cloud.sshkeys import make_key_pair
from tests.component.cloud_nodes import Site, eventually, supervisors
from tests.lab.copies import copy_tree

pytestmark = pytest.mark.lab
pytest_plugins = ["tests.component.cloud_fixtures"]

KERNEL_OWNED = ("/proc", "/sys", "/dev/pts")


def root_of(site: Site, node: LeasedNode) -> Path:
    init = site.facts(node.lease_id).init
    assert init is not None
    return Path(f"/proc/{init.pid}/root")


def fact(path: Path) -> InjectedFile:
    found = path.lstat()
    kind = {
        stat.S_IFREG: InjectedType.FILE,
        stat.S_IFDIR: InjectedType.DIRECTORY,
        stat.S_IFLNK: InjectedType.LINK,
        stat.S_IFCHR: InjectedType.CHARACTER,
    }[stat.S_IFMT(found.st_mode)]
    content = b""
    if kind is InjectedType.FILE:
        content = path.read_bytes()
    elif kind is InjectedType.LINK:
        content = os.fsencode(path.readlink())
    elif kind is InjectedType.CHARACTER:
        content = f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}".encode()
    return InjectedFile(kind, stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, content)


def walk(root: Path, without: tuple[str, ...] = ()) -> dict[str, InjectedFile]:
    facts = {}
    for directory, names, files in os.walk(root):
        inside = "/" + os.path.relpath(directory, root).removeprefix(".")
        for name in [*names, *files]:
            path = inside.rstrip("/") + "/" + name
            facts[path] = fact(Path(directory) / name)
        names[:] = [name for name in names if inside.rstrip("/") + "/" + name not in without]
    return facts


def test_a_node_boots_and_runs_a_command(site: Site) -> None:
    with site.acquire() as node:
        output = site.ssh(node, "id -u; uname -n; cat /etc/hostname; cat /proc/1/comm")
        name = f"mock-cloud-{node.lease_id}"
        assert output.split() == ["0", name, name, "sshd"]


def test_only_the_pinned_keys_work(site: Site) -> None:
    with site.acquire() as node, site.acquire("two") as other:
        assert node.address.host_key != other.address.host_key
        own = site.state_dir / "keys" / node.lease_id
        own.write_bytes((site.state_dir / "keys" / other.lease_id).read_bytes())
        done = site.try_ssh(node, "true")
        assert done.returncode == 255 and "Permission denied" in done.stderr


def test_what_differs_from_the_image_is_what_was_injected(site: Site, image: Path) -> None:
    with site.acquire() as node:
        there = walk(root_of(site, node), KERNEL_OWNED)
        lower = walk(image)
        differing = {path: item for path, item in there.items() if lower.get(path) != item}
        covered = tuple(f"{mount.point}/" for mount in node.mounts if mount.point != "/")
        missing = {path for path in set(lower) - set(there) if not path.startswith(covered)}
        wanted = {path: item.without_content() for path, item in differing.items()}
        assert {path: node.injected.get(path) for path in differing} == wanted
        assert not missing
        for path, item in node.injected.items():
            assert there[path].without_content() == item, path


def test_the_mounts_are_the_published_ones(site: Site) -> None:
    with site.acquire() as node, site.acquire("two", disk_mib=64) as disk:
        for each in (node, disk):
            lines = (root_of(site, each) / "proc/1/mountinfo").read_text().splitlines()
            left_right = [line.split(" - ") for line in lines]
            found = [(left.split()[4], right.split()[0]) for left, right in left_right]
            assert found == [(mount.point, mount.type) for mount in each.mounts]
            options = left_right[0][1]
            assert str(site.image) not in options and str(site.state_dir) not in options


def test_pid_1_has_a_bare_environment_and_reaps_orphans(site: Site) -> None:
    with site.acquire() as node:
        init = site.facts(node.lease_id).init
        assert init is not None
        status = Path(f"/proc/{init.pid}/status").read_text()
        assert "\nNSpid:\t" in status and status.split("NSpid:\t")[1].split()[1] == "1"
        environ = Path(f"/proc/{init.pid}/environ").read_bytes()
        # sshd writes its title over the start of it; whatever is left is PATH or that title.
        assert not [word for word in environ.split(b"\0") if word.startswith(b"LD_")]
        site.ssh(node, "(for i in 1 2 3; do (sleep 0.1 &) ; done)")
        time.sleep(0.4)
        states = site.ssh(node, "cat /proc/[0-9]*/stat | sed 's/.*) //' | cut -c1")
        assert "Z" not in states.split()
        assert "sleep" not in site.ssh(node, "cat /proc/[0-9]*/comm").split()


def test_the_node_has_no_capability_to_change_the_host(site: Site) -> None:
    with site.acquire() as node:
        bounding = int(site.ssh(node, "sed -n 's/^CapBnd:.//p' /proc/self/status"), 16)
        # linux/capability.h: files' flags, networks, modules, raw I/O, accounting, clock, …
        for capability in (9, 11, 12, 13, 16, 17, 20, 25, 26, 30, *range(32, 41)):
            assert not bounding & (1 << capability)
        assert bounding & (1 << 21)  # CAP_SYS_ADMIN: builds mount


@pytest.mark.parametrize("disk_mib", [0, 64])
def test_a_build_can_nest_namespaces_overlays_and_chroots(site: Site, disk_mib: int) -> None:
    script = """
        set -e; cd /var/lib/mock; mkdir -p up work root
        cat > inside.sh <<'END'
            set -e
            mount -t overlay -o lowerdir=/,upperdir=up,workdir=work overlay root
            mount -t proc proc root/proc
            mknod root/dev/made c 1 5
            cat > root/chrooted.sh <<'DEEP'
                echo pid $$ of $(readlink /proc/1/exe)
                echo x > /etc/made
                od -An -N1 -tx1 /dev/made
DEEP
            chroot root bash /chrooted.sh
END
        unshare --mount --pid --fork --ipc --uts bash inside.sh
        cat up/etc/made; test ! -e /etc/made; ls root
    """
    with site.acquire(disk_mib=disk_mib) as node:
        pid, number, of, init, *rest = site.ssh(node, script).split()
        assert (pid, of, init, rest) == ("pid", "of", "/usr/bin/bash", ["00", "x"])
        assert int(number) < 20  # counted from 1 in a pid namespace of its own


def test_the_image_stays_as_it_is(site: Site, image: Path) -> None:
    before = walk(image)
    with site.acquire() as node:
        site.ssh(node, "echo x > /etc/made; rm /usr/bin/od; chmod 0 /usr/bin/env; mkdir /new")
        assert site.try_ssh(node, "od").returncode == 127
        node.destroy()
    assert walk(image) == before


def test_a_small_disk_gets_full_for_real(site: Site) -> None:
    with site.acquire(disk_mib=64) as node:
        done = site.try_ssh(node, "dd if=/dev/zero of=/var/lib/mock/fill bs=1M count=100")
        assert done.returncode == 1
        assert "No space left on device" in done.stderr
        assert site.ssh(node, "echo still here; rm /var/lib/mock/fill").strip() == "still here"


def test_nodes_see_neither_each_other_nor_the_host(site: Site) -> None:
    with site.acquire("one") as one, site.acquire("two") as two:
        assert one.address.host != two.address.host
        site.ssh(one, "touch /var/lib/mock/mine; mkdir /tmp/m; mount -t tmpfs none /tmp/m")
        assert "mine" not in site.ssh(two, "ls /var/lib/mock; ls /tmp")
        pids = site.ssh(two, "echo /proc/[0-9]*").split()
        assert len(pids) < 8
        assert "/tmp/m" not in Path("/proc/self/mountinfo").read_text()


def test_destroying_is_complete_and_idempotent(site: Site) -> None:
    node = site.acquire(disk_mib=64)
    site.ssh(node, "setsid sleep 1000 > /dev/null 2>&1 < /dev/null & sleep 0.1")
    facts = site.facts(node.lease_id)
    node.destroy()
    node.destroy()
    assert facts.init is not None and not facts.init.alive and not facts.supervisor.alive
    assert site.nodes() == [] and supervisors(site.state_dir) == []
    assert list((site.state_dir / "keys").iterdir()) == []
    provider = LocalProvider(site.state_dir, None)
    provider.destroy(node.lease_id, "")
    assert provider.list_nodes() == []


def test_a_deep_tree_is_removed(site: Site) -> None:
    with site.acquire() as node:
        site.ssh(node, "cd /var/lib/mock; mkdir -p $(printf 'd/%.0s' {1..1500})")
        node.destroy()
    assert site.nodes() == []


def test_the_node_dies_with_its_supervisor(site: Site) -> None:
    node = site.acquire()
    facts = site.facts(node.lease_id)
    os.kill(facts.supervisor.pid, signal.SIGKILL)
    assert facts.init is not None
    eventually(lambda: facts.init is not None and not facts.init.alive)
    assert site.try_ssh(node, "true").returncode == 255
    node.destroy()
    assert site.nodes() == []


def test_the_supervisor_clears_up_after_its_node(site: Site) -> None:
    node = site.acquire(disk_mib=64)
    facts = site.facts(node.lease_id)
    assert facts.init is not None
    os.kill(facts.init.pid, signal.SIGKILL)
    eventually(lambda: site.nodes() == [] and not facts.supervisor.alive)
    assert not (site.state_dir / "keys" / node.lease_id).exists()


def test_removing_the_journal_ends_the_nodes(site: Site) -> None:
    node = site.acquire()
    facts = site.facts(node.lease_id)
    for file in site.state_dir.glob("leases.sqlite*"):
        file.unlink()
    eventually(lambda: site.nodes() == [] and not facts.supervisor.alive)


def test_a_failing_sshd_shows_its_console(site: Site, image: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    copy_tree(image, broken)
    config = broken / "etc/ssh/sshd_config"
    config.write_text("NoSuchOption yes\n")
    with pytest.raises(CloudError, match="NoSuchOption"):
        Site(site.state_dir, broken).acquire()
    assert site.nodes() == []


def test_a_silent_sshd_ends_the_boot_at_its_deadline(
    site: Site, image: Path, tmp_path: Path
) -> None:
    silent = tmp_path / "silent"
    copy_tree(image, silent)
    sshd = silent / "usr/sbin/sshd"
    sshd.write_text("#!/usr/bin/bash\necho waiting for nothing\nsleep 600\n")
    site.acquire().destroy()  # so that the journal is there
    provider = LocalProvider(site.state_dir, LocalSettings(silent, boot_timeout_s=1.0))
    bootstrap = Bootstrap(make_key_pair(), make_key_pair().public, "node")
    order = NodeOrder("a1", "lab", "me", "x86_64", time.time() + 60)
    with pytest.raises(CloudError, match=r"(?s)did not greet within 1 s.*waiting for nothing"):
        provider.create(order, bootstrap, timeout_s=20)
    eventually(lambda: site.nodes() == [])


def test_an_address_of_elsewhere_is_refused(site: Site, image: Path) -> None:
    provider = LocalProvider(site.state_dir, LocalSettings(image, address="192.0.2.1"))
    bootstrap = Bootstrap(make_key_pair(), make_key_pair().public, "node")
    order = NodeOrder("a1", "lab", "me", "x86_64", time.time() + 60)
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1"):
        provider.create(order, bootstrap, timeout_s=5)
    assert site.nodes() == []


def test_a_given_address_is_used(site: Site, image: Path) -> None:
    provider = LocalProvider(site.state_dir, LocalSettings(image, address="127.0.0.1"))
    bootstrap = Bootstrap(make_key_pair(), make_key_pair().public, "node")
    site.acquire().destroy()  # so that the journal is there
    order = NodeOrder("a1", "lab", "me", "x86_64", time.time() + 60)
    node = provider.create(order, bootstrap, timeout_s=5)
    try:
        assert node.address.host == "127.0.0.1" and node.address.port > 1024
    finally:
        provider.destroy("a1", node.handle)


def _create_as_nobody(site: Site, messages: "multiprocessing.SimpleQueue[str]") -> None:
    os.seteuid(65534)
    try:
        LocalProvider(site.state_dir, LocalSettings(site.image)).create(
            NodeOrder("a1", "lab", "me", "x86_64", 0.0),
            Bootstrap(make_key_pair(), make_key_pair().public, "node"),
            timeout_s=1,
        )
    except ConfigError as error:
        messages.put(error.message)


def test_it_needs_root_and_says_so(site: Site) -> None:
    forking = multiprocessing.get_context("fork")
    messages = forking.SimpleQueue()
    child = forking.Process(target=_create_as_nobody, args=(site, messages))
    child.start()
    child.join(20)
    assert child.exitcode == 0
    assert "need root" in messages.get()
