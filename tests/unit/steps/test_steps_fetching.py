# SPDX-License-Identifier: GPL-2.0-or-later
"""Source packages named by URL, from a real server."""

from __future__ import annotations

import http.server
import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from mock_cloud.console import Console
from mock_cloud.errors import CommandLineError
from mock_cloud.invocation.model import CommandLine
from mock_cloud.steps.check.fetching import fetched
from tests.lab.firm_proxy import FirmProxy, Site
from tests.lab.tls import Authority

BODY = b"a package" * 1000


class Handler(http.server.BaseHTTPRequestHandler):
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        name = self.path.rpartition("/")[2]
        again = self.asked.count(self.path) > 1
        if name == "closed.src.rpm" and self.headers["Authorization"] != "Basic bWU6c2VzYW1l":
            self.send_error(401)
        elif name == "gone.src.rpm":
            self.send_error(404)
        elif name == "busy.src.rpm" and not again:
            self.send_error(503)
        elif name == "moved":
            self.send_response(302)
            self.send_header("Location", "/there/a-1-1.src.rpm")
            self.end_headers()
        else:
            self.send_response(200)
            if name.startswith("disposed"):
                told = self.path.partition("/disposed/")[2] or "../told-1-1.src.rpm"
                self.send_header("Content-Disposition", f'attachment; filename="{told}"')
            short = name == "short.src.rpm" and not again
            self.send_header("Content-Length", str(len(BODY)))
            self.end_headers()
            self.wfile.write(BODY[: len(BODY) // 2] if short else BODY)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    Handler.asked.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{made.server_port}"
        made.shutdown()
        thread.join()


def console() -> Console:
    return Console(stream=io.StringIO())


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a-1-1.src.rpm", "a-1-1.src.rpm"),
        ("a%2B%2B-1.src.rpm", "a++-1.src.rpm"),
        ("disposed", "told-1-1.src.rpm"),
        ("moved", "a-1-1.src.rpm"),
        ("busy.src.rpm", "busy.src.rpm"),
        ("short.src.rpm", "short.src.rpm"),
    ],
)
def test_a_file_stands_in_for_the_url_while_it_is_needed(server: str, path: str, name: str) -> None:
    line = CommandLine(mode="rebuild", args=("here.src.rpm", f"{server}/{path}"))
    with fetched(line, console()) as found:
        assert found.args[0] == "here.src.rpm"
        file = Path(found.args[1])
        assert (file.name, file.read_bytes()) == (name, BODY)
    assert not file.exists() and not file.parent.parent.exists()


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("gone.src.rpm", "404"),
        ("page.html", "not a source package"),
        ("-x.src.rpm", "not a source package"),
        (".rpm", "not a source package"),
    ],
)
def test_what_cannot_be_fetched_is_said_in_one_line(server: str, path: str, says: str) -> None:
    secret = server.replace("://", "://me:sesame@")
    line = CommandLine(mode="chain", args=(f"{secret}/{path}",))
    with pytest.raises(CommandLineError, match=says) as error, fetched(line, console()):
        pass
    assert "sesame" not in f"{error.value.message}{error.value.hint}"
    assert Handler.asked == [f"/{path}"]


def test_a_password_in_the_url_is_used(server: str) -> None:
    url = server.replace("://", "://me:sesame@") + "/closed.src.rpm"
    with fetched(CommandLine(mode="rebuild", args=(url,)), console()) as found:
        assert Path(found.args[0]).read_bytes() == BODY
    url = url.replace("sesame", "wrong")
    line = CommandLine(mode="rebuild", args=(url,))
    with pytest.raises(CommandLineError, match="401"), fetched(line, console()):
        pass


def test_a_server_that_is_not_there_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    line = CommandLine(mode="rebuild", args=("http://127.0.0.1:9/a-1-1.src.rpm",))
    with pytest.raises(CommandLineError, match="refused"), fetched(line, console()):
        pass


def test_other_modes_have_their_own_idea_of_urls(server: str) -> None:
    line = CommandLine(mode="install", args=(f"{server}/a-1-1.rpm",))
    with fetched(line, console()) as found:
        assert found is line


def test_through_a_firms_proxy(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a password, looking into TLS; what shuts the door is said, and no password."""
    firm = Authority(tmp_path)
    name, port = "sources.example", int(server.rpartition(":")[2])
    sites = {f"{name}:443": Site(("127.0.0.1", port), looked_into=True)}
    url = f"https://{name}/a-1-1.src.rpm"
    with FirmProxy("127.0.0.1", "clerk:desk-91", firm, sites) as proxy:
        monkeypatch.setenv("https_proxy", f"http://clerk:desk-91@{proxy.address}")
        monkeypatch.setenv("SSL_CERT_FILE", str(firm.path))
        with fetched(CommandLine(mode="rebuild", args=(url,)), console()) as line:
            assert Path(line.args[0]).read_bytes() == BODY
        assert [one.status for one in proxy.seen] == [200]
        ends = (
            ("SSL_CERT_FILE", None, "unable to get local issuer certificate"),
            ("https_proxy", f"http://clerk:other-92@{proxy.address}", "407"),
        )
        for variable, value, says in ends:
            with monkeypatch.context() as patch:
                if value is None:
                    patch.delenv(variable)
                else:
                    patch.setenv(variable, value)
                with (
                    pytest.raises(CommandLineError, match=says) as refused,
                    fetched(CommandLine(mode="rebuild", args=(url,)), console()),
                ):
                    pass
            assert f"the proxy {proxy.address}: " in refused.value.message
            assert "desk-91" not in str(refused.value) and "other-92" not in str(refused.value)
        monkeypatch.setenv("no_proxy", f"127.0.0.0/8,{name}:8443")
        monkeypatch.setenv("http_proxy", f"http://{proxy.address}")
        there = f"{server}/a-1-1.src.rpm"
        with fetched(CommandLine(mode="rebuild", args=(there,)), console()) as line:
            assert Path(line.args[0]).read_bytes() == BODY
