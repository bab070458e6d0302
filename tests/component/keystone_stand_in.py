# SPDX-License-Identifier: GPL-2.0-or-later
"""A small identity service, and an identity provider, that note who sends which secret where.

Answers are as Keystone 22 gave them; the provider's as RFC 6749 (4.3, 4.4) has them.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FEDERATION = "/v3/OS-FEDERATION/identity_providers/corp/protocols/openid/auth"
PROVIDER = "/provider/token"


@dataclass
class StandIn:
    """`asked` are method, path and body of each request; `refusal` answers requests for a token."""

    url: str
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    agents: set[str] = field(default_factory=set)
    refusal: tuple[int, object] | None = None

    def tokens(self) -> list[Any]:
        """The bodies of all requests for a token."""
        return [
            json.loads(body)["auth"] for _, path, body in self.asked if path.endswith("/tokens")
        ]

    def told(self, secret: str) -> list[str]:
        """The paths of all requests that had `secret` in them."""
        return [path for _, path, body in self.asked if secret in body]


@contextmanager
def run_keystone() -> Iterator[StandIn]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        stand_in = StandIn(f"http://127.0.0.1:{server.server_port}")
        server.RequestHandlerClass = type("Handler", (_Handler,), {"stand_in": stand_in})
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield stand_in
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    stand_in: StandIn

    def do_GET(self) -> None:
        self._note("")
        url = self.stand_in.url
        version = {
            "id": "v3.14",
            "status": "stable",
            "links": [{"rel": "self", "href": f"{url}/v3/"}],
            "media-types": [],
        }
        if self.path in ("/v3", "/v3/"):
            self._answer(200, {"version": version})
        elif self.path == "/":
            self._answer(300, {"versions": {"values": [version]}})
        else:
            self._answer(404, {"error": {"code": 404, "message": "Not found."}})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        self._note(body)
        if self.path == PROVIDER:
            self._answer(200, {"access_token": "access", "token_type": "Bearer"})
        elif self.path == FEDERATION:
            assert self.headers["Authorization"] == "Bearer access"
            self._answer(201, {"token": {"methods": ["openid"], "user": {}}}, token="unscoped")
        elif self.path != "/v3/auth/tokens":
            self._answer(404, {"error": {"code": 404, "message": "Not found."}})
        elif self.stand_in.refusal is not None:
            self._answer(*self.stand_in.refusal)
        else:
            self._answer(201, {"token": self._token()}, token="scoped")

    def _token(self) -> object:
        catalog = [
            {
                "type": "compute",
                "name": "nova",
                "id": "c",
                "endpoints": [
                    {
                        "id": f"{region}-{interface}",
                        "region": region,
                        "region_id": region,
                        "interface": interface,
                        "url": f"{self.stand_in.url}/compute/{region}/{interface}",
                    }
                    for region in ("north", "south")
                    for interface in ("public", "internal")
                ],
            }
        ]
        times = {"issued_at": "2026-01-01T00:00:00.0Z", "expires_at": "2099-01-01T00:00:00.0Z"}
        return {"methods": ["password"], "user": {}, "roles": [], "catalog": catalog, **times}

    def _note(self, body: str) -> None:
        self.stand_in.asked.append((self.command, self.path, body))
        self.stand_in.agents.add(self.headers.get("User-Agent", ""))

    def _answer(self, status: int, body: object, token: str = "") -> None:
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        kind = "text/html" if isinstance(body, str) else "application/json"
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        if token:
            self.send_header("X-Subject-Token", token)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass
