# SPDX-License-Identifier: GPL-2.0-or-later
"""Secrets of a dnf.conf: what stands in a node's text, and what this machine asks with."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mock_cloud.agent.engine.repos import parse_repositories
from mock_cloud.config import overrides
from mock_cloud.config.access import Accesses, check_access, has_secret, without_secret_variables
from mock_cloud.config.chroots import load_config_opts
from mock_cloud.config.defaults import default_config_opts
from mock_cloud.config.repositories import Portable, add_repositories, make_portable
from mock_cloud.errors import ConfigError, UnsupportedByEngine
from mock_cloud.invocation.parser import parse_command_line
from mock_cloud.repoproxy.access import Access
from mock_cloud.settings import RepoAccess
from mock_cloud.wire.job_request import TUNNEL_PROXY

MAIN = "[main]\nreposdir=/dev/null\n"
VARIABLES = {"releasever": "9", "basearch": "x86_64", "pw": "hunter22"}
SECRET = "hunter22"


def portable(text: str, *switches: tuple[str, str], **environ: str) -> Portable:
    return make_portable(MAIN + text, VARIABLES, switches, accesses=Accesses(VARIABLES, environ))


def access(text: str, **environ: str) -> Access:
    (found,) = portable(text, **environ).accesses.found.values()
    return found


RHEL = """[baseos]
name = Red Hat Enterprise Linux - BaseOS
baseurl = https://cdn.example/content/$releasever/$basearch/os/
sslverify = 1
sslcacert = /etc/rhsm/ca/redhat-uep.pem
sslclientkey = /etc/pki/entitlement/17-key.pem
sslclientcert = /etc/pki/entitlement/17.pem
gpgkey = https://cdn.example/KEY http://keys.example/OTHER
skip_if_unavailable=False
"""


def test_a_node_knows_the_repository_by_a_host_of_the_tunnels() -> None:
    made = portable(RHEL)
    assert made.text == (
        f"{MAIN}[baseos]\nbaseurl=http://baseos.repos.mock-cloud.invalid/\nproxy={TUNNEL_PROXY}\n"
        "name = Red Hat Enterprise Linux - BaseOS\n"
        "gpgkey = http://baseos.repos.mock-cloud.invalid/mock-cloud-keys/0"
        " http://baseos.repos.mock-cloud.invalid/mock-cloud-keys/1\n"
        "skip_if_unavailable=False\n"
    )
    (found,) = made.accesses.found.values()
    assert found.baseurls == ("https://cdn.example/content/9/x86_64/os/",)
    assert found.keys == ("https://cdn.example/KEY", "http://keys.example/OTHER")
    assert found.certificates.client == Path("/etc/pki/entitlement/17.pem")
    assert found.certificates.key == Path("/etc/pki/entitlement/17-key.pem")
    assert found.certificates.authorities == Path("/etc/rhsm/ca/redhat-uep.pem")
    (there,) = parse_repositories(made.text, releasever="9", arch="x86_64", variables={},
                                  switches=[], tunnel="http://127.0.0.1:5")  # fmt: skip
    assert there.tunnel == "http://127.0.0.1:5" and there.sslcacert == ""


@pytest.mark.parametrize(
    "text",
    [
        "[r]\nbaseurl=http://u:hunter22@h/\n",
        "[r]\nbaseurl=http://u:hunter22@h/,\n  https://u:hunter22@g/\n",
        "[r]\nmetalink=https://hunter22@h/m\n",
        "[r]\nbaseurl=http://h/\nusername=hunter22\n",
        "[r]\nbaseurl=http://h/\nusername=u\npassword = hunter22\n",
        "[r]\nbaseurl=http://h/\nusername=u\npassword=\n  hunter22\n",
        "[r]\nbaseurl=http://h/\nusername=u\npassword=$pw\n",
        "[r]\nbaseurl=http://u:${pw}@h/\n",
        "[r]\nbaseurl=http://h/\nproxy=http://u:hunter22@p:1/\n",
        "[r]\nbaseurl=http://h/\nproxy=http://p:1/\nproxy_username=u\nproxy_password=hunter22\n",
        "[main]\nusername=u\npassword=hunter22\n[r]\nbaseurl=https://h/\n",
        "[main]\nproxy=http://u:hunter22@p\n[r]\nbaseurl=https://h/\n",
        "[r]\nbaseurl=http://h/\nusername=u\n# password = hunter22\npassword=hunter22\n",
        "[r]\nbaseurl=http://u:hunter22@h/\n#baseurl=http://u:hunter22@old/\n",
        "[r]\nbaseurl=http://h/\nsslclientkey=/hunter22\nsslclientcert=/hunter22\n",
        "[r]\nbaseurl=http://u:hunter22@h/\ngpgkey=http://u:hunter22@h/KEY\n",
    ],
)
def test_no_secret_stands_in_the_text_for_a_node(text: str) -> None:
    made = portable(text)
    assert len(made.accesses.found) == 1
    assert "hunter22" not in made.text
    variables = without_secret_variables(VARIABLES, made.accesses, [made.text])
    assert "hunter22" not in str(variables) or "$" not in text
    assert "hunter22" not in repr(made.accesses.found.values()).replace("/hunter22", "").replace(
        "user='hunter22'", ""
    )
    disabled = portable(text, ("--disablerepo", "*"))
    assert "hunter22" not in disabled.text and not disabled.accesses.found


@pytest.mark.parametrize("line", ["password hunter22", " hunter22", "[password hunter22"])
def test_a_line_that_is_none_is_not_quoted_where_there_are_passwords(line: str) -> None:
    text = f"{MAIN}\n[r]\nbaseurl=http://u:p@h/\n# x\n{line}\n"
    with pytest.raises(ConfigError, match=r"line \d") as caught:
        portable(text)
    assert "hunter22" not in caught.value.message
    with pytest.raises(ConfigError, match=r"line \d") as caught:
        add_repositories(MAIN + text, ["http://h/"])
    assert "hunter22" not in caught.value.message


def test_addrepo_with_a_password() -> None:
    text = add_repositories("", ["https://u:hunter22@h/r"])
    made = portable(text)
    assert "hunter22" not in made.text and "[h_r]" in made.text
    (found,) = made.accesses.found.values()
    assert found.origin("https://h/r").login.password.reveal() == b"hunter22"  # type: ignore[union-attr]


def test_a_variable_that_is_used_elsewhere_goes_along() -> None:
    made = portable("[r]\nbaseurl=http://$pw:x@h/\n[s]\nbaseurl=http://h/$pw/\n")
    assert without_secret_variables({"pw": "x"}, made.accesses, [made.text]) == {"pw": "x"}


def test_the_options_password_goes_before_the_urls() -> None:
    """As curl has it for what a program sets."""
    one = access("[r]\nbaseurl=http://a:b@h/r/\nusername=u\npassword=p%20q\n")
    login = one.origin("http://h/r/").login
    assert login is not None and (login.user, login.password.reveal()) == ("u", b"p%20q")
    other = access("[r]\nbaseurl=http://a:b%40c@h/r/ http://g/\n")
    login = other.origin("http://h/r/").login
    assert login is not None and login.password.reveal() == b"b@c"
    assert other.origin("http://g/").login is None


def test_names_are_labels_and_distinct() -> None:
    text = "".join(f"[{name}]\nbaseurl=http://u:p@h/{name}\n" for name in ("A_b", "a.b", "--"))
    names = [one.name for one in portable(text).accesses.found.values()]
    assert names == ["a-b", "a-b-1", "repository"]


def test_proxies_are_the_repositorys_else_the_environments() -> None:
    secret = "[r]\nbaseurl=https://u:p@h.example/\n"
    environ = {"https_proxy": "http://e:1", "no_proxy": "other.example"}
    url = "https://h.example/"
    assert str(access(secret, **environ).find_proxy(url)) == "e:1"
    assert access(secret + "proxy=_none_\n", **environ).find_proxy(url) is None
    own = secret + "proxy=http://p:2\nproxy_username=a\nproxy_password=b\n"
    proxy = access(own, **environ).find_proxy(url)
    assert proxy is not None and str(proxy) == "p:2" and proxy.login is not None
    assert access(own, no_proxy=".example").find_proxy(url) is None
    with pytest.raises(ConfigError, match="socks5"):
        access(secret + "proxy=socks5://p:2\n")


@pytest.mark.parametrize("url", ["ftp://u:p@h/", "http://u:p@h/$what/", "https://u:p@/x"])
def test_what_cannot_be_fetched_here_is_refused(url: str) -> None:
    with pytest.raises(UnsupportedByEngine, match="'r'") as caught:
        portable(f"[r]\nbaseurl={url}\n")
    assert "u:p" not in caught.value.message


def test_a_repository_of_this_machines_files_needs_none_of_it() -> None:
    made = portable("[main]\nsslcacert=/ca\n[r]\nbaseurl=file:///srv\n[s]\nbaseurl=/srv/s\n")
    assert not made.accesses.found and "sslcacert" not in made.text


def test_nodes_that_reach_repositories_by_themselves_get_none_of_these() -> None:
    with pytest.raises(UnsupportedByEngine, match="'r' needs a password") as caught:
        check_access(access("[r]\nbaseurl=http://u:p@h/\n"), RepoAccess.DIRECT)
    assert "repo_access" in str(caught.value.hint)


def test_files_are_looked_at_before_a_node_is_leased(tmp_path: Path) -> None:
    one = access(f"[r]\nbaseurl=https://h/\nsslcacert={tmp_path}/none\n")
    with pytest.raises(ConfigError, match=f"'r'.*{tmp_path}/none.*No such file"):
        check_access(one, RepoAccess.AUTO)


def test_secrets_in_other_options_are_found() -> None:
    words = {"correct-horse", "centos"}
    assert has_secret({"a": ["x correct-horse y"]}, words) and has_secret("centos", words)
    assert not has_secret({"root": ("centos-9-x86_64", 7, None)}, words)


def test_mocks_own_configuration_of_rhel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """rhel-9 of mock-core-configs as it is: three repositories, one certificate."""
    source = os.environ.get("MOCK_CLOUD_TEST_MOCK_SOURCE")
    if not source:
        pytest.skip("needs a mock checkout: set MOCK_CLOUD_TEST_MOCK_SOURCE")
    (tmp_path / "17-key.pem").touch()
    monkeypatch.setattr(overrides, "ENTITLEMENTS", tmp_path)
    line = parse_command_line(["-r", "rhel-9-x86_64", "--init"], {})
    opts = load_config_opts(
        "rhel-9-x86_64", Path(source) / "mock-core-configs/etc/mock", home=tmp_path
    )
    overrides.apply_command_line(opts, line)
    # What the files are called that have the keys is distribution-gpg-keys' matter.
    text = opts["dnf.conf"].replace("file:///usr", "http://keys.example/usr")
    made = make_portable(text, {"releasever": "9", "basearch": "x86_64"}, ())
    found = list(made.accesses.found.values())
    assert [one.name for one in found] == ["baseos", "appstream", "codeready-builder"]
    assert {str(one.certificates.client) for one in found} == {"/etc/pki/entitlement/17.pem"}
    assert found[0].baseurls == ("https://cdn.redhat.com/content/dist/rhel9/9/x86_64/baseos/os/",)
    assert "entitlement" not in made.text and "cdn.redhat.com" not in made.text


def test_the_id_of_an_entitlement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overrides, "ENTITLEMENTS", tmp_path)
    opts = default_config_opts()
    opts["redhat_subscription_required"] = True
    with pytest.raises(ConfigError, match="not subscribed"):
        overrides._apply_subscription(opts)
    for name in ("22-key.pem", "11-key.pem", "11.pem"):
        (tmp_path / name).touch()
    overrides._apply_subscription(opts)
    assert opts["redhat_subscription_key_id"] == "11"
    opts["redhat_subscription_key_id"] = "mine"
    overrides._apply_subscription(opts)
    assert opts["redhat_subscription_key_id"] == "mine"


def test_whose_certificates_are_not_checked() -> None:
    """Of a repository, of a proxy, or of [main]; each alone."""
    text = f"[r]\nbaseurl=https://h/\nusername=u\nproxy=http://u:{SECRET}@p:1/\n"
    assert access(text).certificates.verifies
    assert not access(f"sslverify=0\n{text}").certificates.verifies
    one = access(f"{text}sslverify=0\n")
    assert not one.certificates.verifies
    proxy = one.find_proxy("https://h/")
    assert proxy is not None and proxy.certificates.verifies
    proxy = access(f"{text}proxy_sslverify=0\n").find_proxy("https://h/")
    assert proxy is not None and not proxy.certificates.verifies
