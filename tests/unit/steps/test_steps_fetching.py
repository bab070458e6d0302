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
