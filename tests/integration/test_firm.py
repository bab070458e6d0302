# SPDX-License-Identifier: GPL-2.0-or-later
"""A firm: its office sees a proxy and a bastion. Builds with what docs/networks.md says, only."""

from __future__ import annotations

import base64
import os
import shutil
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mock_cloud.process import run
from tests.integration.conftest import Ended, User
from tests.integration.ec2_remote import write_user
from tests.integration.packager import accounts
from tests.integration.real_mock import add_mock
from tests.integration.search import Search
from tests.lab import dist, keys
from tests.lab.clouds.ec2 import SECRET_KEY, Ec2Cloud
from tests.lab.firm_proxy import FirmProxy, Site, requests
from tests.lab.http import FileServer
from tests.lab.layout import Lab, locked, repository_root
from tests.lab.rooms import Room
from tests.lab.rpmspec import Package, file
from tests.lab.sshd import Sshd, SshdOptions
from tests.lab.tls import Authority, Issued
from tests.lab.touch_agent import TouchAgent

pytestmark = [pytest.mark.lab, pytest.mark.slow]

WRITE = "MOCK_CLOUD_WRITE_NETWORKS"
CDN, STORE, API = "cdn.vendor.example", "packages.partner.example", "ec2.cloud.example"
TOOL = "firm-tool"
CLERK, PROXY_WORD = "clerk", "desk-and-chair-91"
PARTNER, PARTNER_WORD = "partner", "blue-kettle-44"

# A process of the office: who root is there, no name but its own, and what its user's profile says.
_OWN = """\
mount --bind "$0/passwd" /etc/passwd && mount --bind "$0/resolv.conf" /etc/resolv.conf &&
. "$0/profile" && exec "$@"
"""


@dataclass(frozen=True, slots=True)
class Clerk(User):
    """A user in the office."""

    room: tuple[str, ...] = field(default=())

    def run(self, argv: list[str], **given: Any) -> Ended:  # type: ignore[override]
        inside = [*self.room, "unshare", "--mount", "sh", "-c", _OWN, str(self.place), *argv]
        # Not super(): a dataclass with slots is made twice, and zero-argument super has the first.
        return User.run(self, inside, **given)

    def release(self) -> None:
        self.cloud("release", "--all", "--force", "--configdir", self.config.path).expect()


@dataclass
class Firm:
    """All that is there but the clerk."""

    cloud: Ec2Cloud
    office: Room
    proxy: FirmProxy
    cdn: FileServer
    store: FileServer
    bastion: Sshd
    authority: Authority
    vendor: Authority
    entitlement: Issued
    device: TouchAgent


def make_tool(lab: Lab, place: Path) -> Path:
    """A repository of one signed package."""
    package = Package(
        TOOL, "1", "1", "noarch", "A tool of a partner's",
        (file("/usr/share/firm-tool/name", "firm-tool\n"),),
    )  # fmt: skip
    place.mkdir()
    with locked(lab):
        made = dist.build_rpm(package, place / "work", place, "noarch")
        keys.sign(lab, [made])
    shutil.rmtree(place / "work")
    run(["createrepo_c", "--quiet", str(place)], timeout_s=60)
    return place


@pytest.fixture
def firm(lab: Lab, ec2: Ec2Cloud, tmp_path: Path) -> Iterator[Firm]:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    theirs.mkdir()
    authority, vendor = Authority(ours, "the firm"), Authority(theirs, "the vendor")
    tool = make_tool(lab, tmp_path / "tool")
    with ExitStack() as stack:
        office, internet = stack.enter_context(Room()), stack.enter_context(Room())
        cdn = internet.inside(
            lambda: FileServer({"/rhel": lab.dist}, host=internet.address,
                               context=vendor.server(CDN, clients=True))
        )  # fmt: skip
        store = internet.inside(
            lambda: FileServer({"/tool": tool}, host=internet.address,
                               context=vendor.server(STORE), login=f"{PARTNER}:{PARTNER_WORD}")
        )  # fmt: skip
        to_vendor = ssl.create_default_context(cafile=str(vendor.path))
        sites = {
            f"{API}:443": Site(("127.0.0.1", ec2.proxy.port), looked_into=True),
            f"{CDN}:443": Site((internet.address, cdn.port)),
            f"{STORE}:443": Site((internet.address, store.port), True, to_vendor),
        }
        login = f"{CLERK}:{PROXY_WORD}"
        bastion = Sshd(tmp_path / "bastion", SshdOptions(f"ListenAddress {office.here}"))
        device = stack.enter_context(TouchAgent(tmp_path / "device"))
        stack.enter_context(bastion)
        (tmp_path / "bastion/authorized_keys").write_text(f"{device.public}\n")
        yield Firm(
            ec2, office, stack.enter_context(FirmProxy(office.here, login, authority, sites)),
            stack.enter_context(cdn), stack.enter_context(store), bastion,
            authority, vendor, vendor.issue("17"), device,
        )  # fmt: skip


MakeClerk = Callable[[str], Clerk]


@pytest.fixture
def make_clerk(firm: Firm, tmp_path: Path, cache: Path) -> Iterator[MakeClerk]:
    made: list[Clerk] = []

    def make(engine: str) -> Clerk:
        place = tmp_path / engine
        place.mkdir()
        plain = write_user(firm.cloud, place, cache, 'reach = "private"\njump = "bastion"\n')
        write_home(firm, place)
        write_chroot(firm, plain)
        remote = plain.config.path / "remotes.d/ec2.toml"
        remote.write_text(remote.read_text().replace(firm.cloud.url, f"https://{API}"))
        path = plain.environment["PATH"]
        if engine == "mock":
            path = f"{add_mock(place / 'mock')}:{path}"
        extra = {"PATH": path, "XDG_CACHE_HOME": str(own_cache(cache, place))}
        one = Clerk(place, plain.config, place / "cache", plain.options, extra, firm.office.words)
        made.append(one)
        return one

    yield make
    for one in made:
        one.release()


def own_cache(shared: Path, place: Path) -> Path:
    """A cache of the user's own, but for toolkits, which take a while to pack."""
    mine = place / "cache/mock-cloud"
    mine.mkdir(parents=True)
    (mine / "toolkits").symlink_to(shared / "mock-cloud/toolkits")
    return mine.parent


def write_home(firm: Firm, place: Path) -> None:
    """What docs/networks.md has: a proxy, an authority, a jump host whose key is known."""
    (place / "profile").write_text(
        f"export https_proxy=http://{CLERK}:{PROXY_WORD}@{firm.proxy.address}\n"
        f"export SSL_CERT_FILE={firm.authority.path}\n"
    )
    (place / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    import pwd

    (place / "passwd").write_text(accounts(pwd.getpwuid(0), place / "home"))
    ssh = place / "home/.ssh"
    ssh.mkdir(mode=0o700)
    (ssh / "id_ed25519.pub").write_text(f"{firm.device.public}\n")
    where = f"[{firm.office.here}]:{firm.bastion.port}"
    (ssh / "known_hosts").write_text(f"{where} {firm.bastion.host_key.public}\n")
    (ssh / "config").write_text(
        f"Host bastion\n HostName {firm.office.here}\n Port {firm.bastion.port}\n User root\n"
        f" IdentityFile ~/.ssh/id_ed25519.pub\n IdentityAgent {firm.device.path}\n"
    )


def write_chroot(firm: Firm, user: User) -> None:
    """One repository with certificates, one with a password."""
    template = user.config.path / "templates/lab.tpl"
    text = template.read_text()
    line = next(one for one in text.splitlines() if one.startswith("baseurl="))
    key = next(one for one in text.splitlines() if one.startswith("gpgkey="))
    place = firm.entitlement.certificate.parent
    base = (
        f"baseurl=https://{CDN}/rhel/{{{{ releasever }}}}\nsslcacert={firm.vendor.path}\n"
        f"sslclientcert={place}/{{{{ redhat_subscription_key_id }}}}.pem\n"
        f"sslclientkey={place}/{{{{ redhat_subscription_key_id }}}}-key.pem"
    )
    tool = (
        f"\n[partner]\nname=partner\nbaseurl=https://{STORE}/tool\nusername={PARTNER}\n"
        f"password={PARTNER_WORD}\n{key}\nskip_if_unavailable=False\n"
    )
    text = text.replace(line, base)
    end = text.rindex('"""')
    template.write_text(
        text[:end] + tool + text[end:]
        + f"config_opts['chroot_setup_cmd'] += ' {TOOL}'\n"
        "config_opts['redhat_subscription_required'] = True\n"
        "config_opts['redhat_subscription_key_id'] = '17'\n"
    )  # fmt: skip


def secret_words(firm: Firm) -> tuple[str, ...]:
    pairs = (f"{CLERK}:{PROXY_WORD}", f"{PARTNER}:{PARTNER_WORD}")
    coded = (base64.b64encode(pair.encode()).decode() for pair in pairs)
    key = firm.entitlement.key.read_text().splitlines()[1]
    return (PROXY_WORD, PARTNER_WORD, key, SECRET_KEY, *coded)


@pytest.mark.parametrize("engine", ["chroot", "mock"])
def test_a_firms_office_builds(
    firm: Firm, make_clerk: MakeClerk, plain_srpm: Path, tmp_path: Path, engine: str
) -> None:
    """Nothing but what docs/networks.md says is set; who saw what is written down."""
    clerk = make_clerk(engine)
    results = tmp_path / "results"
    search = Search(secret_words(firm), firm.office.path)
    with search.processes():
        built = clerk.mock("-v", "--resultdir", results, plain_srpm).expect()
    assert firm.device.touched == 1  # the bastion's login; the node's key is the lease's own
    assert list(results.glob("toy-plain-*.noarch.rpm"))
    assert TOOL in (results / "root.log").read_text()
    (machine,) = firm.cloud.nodes()
    root = Path(f"/proc/{machine.init_pid}/root")
    written = [clerk.config.path / "templates/lab.tpl", clerk.place / "profile",
               clerk.config.path / "remotes.d/ec2.toml"]  # fmt: skip
    parts = ("var", "etc", "root", "tmp", "run", "dev/shm", "home", "srv")
    assert not any(word in built.stdout + built.stderr for word in search.words)
    assert search.found == set()
    search.trees(clerk.place, results, *(root / part for part in parts))
    assert search.found == {str(path) for path in written}
    assert {one.who for one in firm.proxy.seen} == {firm.office.address}
    seen = what_was_seen(firm, root)
    assert all(status == 200 for status in {one.status for one in firm.proxy.seen}), firm.proxy.seen
    if engine == "chroot":
        write_table(seen)


def test_a_door_that_stays_shut_is_named(firm: Firm, make_clerk: MakeClerk) -> None:
    """Before a node is bought: the proxy's name, what it said, and no password."""
    clerk = make_clerk("chroot")
    profile = clerk.place / "profile"
    right = profile.read_text()
    ends = {
        right.replace(PROXY_WORD, "another-word-17"): "407",
        right.replace("SSL_CERT_FILE", "NO_SUCH_FILE"): "unable to get local issuer certificate",
        right.replace("https_proxy", "no_such_proxy"): API,
    }
    for text, said in ends.items():
        profile.write_text(text)
        ended = clerk.mock("--init")
        assert ended.code == 75 and said in ended.stderr, ended.stderr
        assert "another-word" not in ended.stderr and PROXY_WORD not in ended.stderr
        if said != API:
            assert f"through the proxy {firm.proxy.address}: " in ended.stderr
    profile.write_text(right)
    assert firm.cloud.calls.count("RunInstances") == 0


def what_was_seen(firm: Firm, root: Path) -> list[tuple[str, str, str, str]]:
    """A row for each step: what the proxy saw, the bastion, and whoever was asked."""
    read: dict[str, set[str]] = {}
    for one in firm.proxy.seen:
        read.setdefault(one.line.split()[1], set()).update(requests(one))
    assert set(read) == {f"{API}:443", f"{CDN}:443", f"{STORE}:443"}
    assert not read[f"{CDN}:443"]
    store = {path.rpartition("/")[2].rpartition(".")[2] for path in read[f"{STORE}:443"]}
    assert store >= {"xml", "rpm"}
    assert {one.authorization[:6] for one in firm.store.accesses()} == {"Basic "}
    assert firm.cdn.accesses() and {one.status for one in firm.cdn.accesses()} == {200}
    logged = firm.bastion.log
    assert "Accepted publickey for root" in logged
    configs = [path.read_text() for path in (root / "var/lib/mock-cloud").rglob("dnf.conf")]
    hosts = {word for text in configs for word in text.split() if ".invalid/" in word}
    assert CDN not in "".join(configs) and STORE not in "".join(configs)
    named = " and ".join(sorted({word.rpartition("=")[2] for word in hosts}))
    api = " ".join(sorted(read[f"{API}:443"]))
    return [
        ("the cloud's API", f"`CONNECT {API}:443`, looked into: `{api}`", "", "signed requests"),
        ("SSH to the node", "", "a login, and bytes to port 22 that only the node can read",
         "the host key that was pinned, and a key of this lease's"),
        ("a repository with certificates", f"`CONNECT {CDN}:443`, then TLS that ends in the office",
         "", "GET with the client certificate"),
        ("a repository with a password", f"`CONNECT {STORE}:443`, looked into: GET with the"
         " password", "", "the same"),
        ("dnf on the node", "", "part of the SSH connection", f"plain bytes from {named}"),
    ]  # fmt: skip


def write_table(rows: list[tuple[str, str, str, str]]) -> None:
    if not os.environ.get(WRITE):
        return
    header = ("step", "the firm's proxy sees", "the bastion sees", "the other end sees")
    lines = [header, ("---",) * len(header), *rows]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    page = repository_root() / "docs/networks.md"
    head, mark, rest = page.read_text().partition("<!-- what each step saw -->\n")
    _, end, tail = rest.partition("<!-- end -->\n")
    assert mark and end
    page.write_text(f"{head}{mark}{table}\n{end}{tail}")
