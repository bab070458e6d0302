# SPDX-License-Identifier: GPL-2.0-or-later
"""Repositories with client certificates and passwords: a node builds from them and sees neither."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.conftest import User
from tests.integration.lent_users import MakeUser, make_user_of, volunteers  # noqa: F401
from tests.integration.real_mock import add_mock
from tests.integration.search import Search
from tests.lab.clouds.network import Network
from tests.lab.http import FileServer
from tests.lab.layout import Lab
from tests.lab.tls import Authority, Issued
from tests.lab.volunteers import Volunteers

pytestmark = pytest.mark.lab

USER, PASSWORD = "subscriber", "correct-horse-22"


@pytest.fixture(scope="module")
def firm(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("firm"))


@pytest.fixture
def client(firm: Authority) -> Issued:
    return firm.issue("17")


@pytest.fixture
def vault(lab: Lab, firm: Authority) -> Iterator[FileServer]:
    """A server that only the controller is in one network with; it wants certificate and login."""
    with Network() as network:
        context = firm.server(network.host_address, clients=True)
        with FileServer(
            {"/dist": lab.dist}, host=network.host_address, context=context,
            login=f"{USER}:{PASSWORD}",
        ) as server:  # fmt: skip
            yield server


def configure(user: User, server: FileServer, firm: Authority, client: Issued) -> None:
    """As mock-core-configs has it for RHEL, and a password besides."""
    template = user.config.path / "templates/lab.tpl"
    lines = []
    for line in template.read_text().splitlines():
        if line.startswith("baseurl="):
            place = client.certificate.parent
            lines += [
                f"baseurl={server.url}/dist/{{{{ releasever }}}}", f"sslcacert={firm.path}",
                f"sslclientcert={place}/{{{{ redhat_subscription_key_id }}}}.pem",
                f"sslclientkey={client.key}", f"username={USER}", "password={{ firm_password }}",
            ]  # fmt: skip
        else:
            lines.append(line)
    lines.append("config_opts['redhat_subscription_required'] = True")
    lines.append("config_opts['redhat_subscription_key_id'] = '17'")
    lines.append(f"config_opts['firm_password'] = {PASSWORD!r}")
    template.write_text("".join(f"{line}\n" for line in lines))


def secret_words(client: Issued) -> tuple[str, ...]:
    """Whole and encoded."""
    login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    return (PASSWORD, login, client.key.read_text().splitlines()[1])


def node_places(machine: Volunteers) -> list[Path]:
    root = machine.alpha.root
    return [root / name for name in ("var", "etc", "root", "tmp", "run", "dev/shm", "home", "srv")]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["chroot", "mock"])
def test_a_build_from_a_repository_with_secrets(
    make_user_of: MakeUser, volunteers: Volunteers, vault: FileServer, firm: Authority,  # noqa: F811
    client: Issued, plain_srpm: Path, tmp_path: Path, engine: str,
) -> None:  # fmt: skip
    user = make_user_of("alpha")
    if engine == "mock":
        path = f"{add_mock(tmp_path / 'mock')}:{user.environment['PATH']}"
        user = replace(user, extra={"PATH": path})
    configure(user, vault, firm, client)
    search = Search(secret_words(client))
    with search.processes():
        built = user.mock("-v", "--resultdir", tmp_path / "results", plain_srpm).expect()
    assert "reached through this machine: lab" in built.stderr
    assert list((tmp_path / "results").glob("toy-plain-*.noarch.rpm"))
    template = user.config.path / "templates/lab.tpl"
    search.trees(user.place, tmp_path / "results", user.cache, *node_places(volunteers),
                 but=(template,))  # fmt: skip
    assert not any(word in built.stdout + built.stderr for word in search.words)
    assert search.found == set()
    vault.forget_accesses()
    user.release()
    again = user.mock("--resultdir", tmp_path / "again", plain_srpm).expect()
    assert "warm node" not in again.stderr
    packages = [one.path for one in vault.accesses() if one.path.endswith(".rpm")]
    assert packages == []  # they come from this machine's cache
    assert [one.path for one in vault.accesses() if one.status != 200] == []


@pytest.mark.slow
def test_what_the_server_refuses_is_said(
    make_user_of: MakeUser, volunteers: Volunteers, vault: FileServer, firm: Authority,  # noqa: F811
    client: Issued,
) -> None:  # fmt: skip
    user = make_user_of("alpha")
    configure(user, vault, firm, client)
    vault.login = "somebody:else"
    ended = user.mock("--resultdir", user.place / "results", "--init").expect(30)
    said = "repository 'lab': repodata/repomd.xml: "
    said += f"{vault.url.partition('://')[2].partition(':')[0]} refuses the name and password (401)"
    assert f"WARNING: {said}" in ended.stderr
    assert said in (user.place / "results/root.log").read_text()
    old = firm.issue("17", days=-2)
    configured = user.config.path / "templates/lab.tpl"
    ended = user.mock("--init").expect(3)
    assert f"client certificate {old.certificate} expired on 20" in ended.stderr
    configured.write_text(configured.read_text().replace(f"{old.key}", "/no/key"))
    firm.issue("17")
    ended = user.mock("--init").expect(3)
    assert "with the key /no/key cannot be used: No such file" in ended.stderr
