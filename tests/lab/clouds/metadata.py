# SPDX-License-Identifier: GPL-2.0-or-later
"""The metadata service of the clouds at 169.254.169.254: EC2's tree with its tokens, OpenStack's.

Whoever asks gets what belongs to the node with the address that the question came from, and
`Network` sees to it that no node can answer to another's.
"""

from __future__ import annotations

import json
import secrets
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_TOKEN_HEADER = "X-aws-ec2-metadata-token"
_TTL_HEADER = f"{_TOKEN_HEADER}-ttl-seconds"
_EC2_VERSIONS = ("2009-04-04", "2016-09-02", "2018-09-24", "2021-03-23", "latest")
_OPENSTACK_VERSIONS = ("2012-08-10", "2013-10-17", "2015-10-15", "2018-08-27", "latest")

Tree = Mapping[str, "str | Tree"]


@dataclass(slots=True)
class NodeData:
    """What one node may read. `ec2` is the tree below a version; `openstack` meta_data.json.

    Each is served only if it is not empty; Nova has both, but no tokens. `must_use_token` and
    `hop_limit` are EC2's HttpTokens=required and HttpPutResponseHopLimit.
    """

    user_data: bytes
    ec2: Tree = field(default_factory=dict)
    openstack: Mapping[str, Any] = field(default_factory=dict)
    must_use_token: bool = False
    hop_limit: int = 64
    tokens: set[str] = field(default_factory=set)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    timeout = 2.0

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_PUT(self) -> None:
        node = self._node()
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if node is None or not node.ec2 or node.openstack or self.path != "/latest/api/token":
            return self._send(404, b"")
        if not self.headers.get(_TTL_HEADER, "").isdigit():
            return self._send(400, b"")
        token = secrets.token_urlsafe(40)
        node.tokens.add(token)
        # To a namespace that the node forwards for, such a packet is dead on arrival.
        self.connection.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, node.hop_limit)
        return self._send(200, token.encode(), {_TTL_HEADER: self.headers[_TTL_HEADER]})

    def do_GET(self) -> None:
        node = self._node()
        found = None if node is None else find(node, self.path)
        if node is not None and not self._may_read(node):
            return self._send(401, b"")
        return self._send(404, b"") if found is None else self._send(200, found)

    def _may_read(self, node: NodeData) -> bool:
        is_free = not node.must_use_token or self.path.startswith("/openstack")
        return is_free or self.headers.get(_TOKEN_HEADER, "") in node.tokens

    def _node(self) -> NodeData | None:
        return self.server.owner.find_node(str(self.client_address[0]))

    def _send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def find(node: NodeData, path: str) -> bytes | None:
    """The document at `path`, or None."""
    words = [word for word in path.split("/") if word]
    if words and words[0] == "openstack" and node.openstack:
        return _find_openstack(node, words[1:])
    return _find_ec2(node, words) if node.ec2 else None


def _find_ec2(node: NodeData, words: list[str]) -> bytes | None:
    if not words:
        return "\n".join(_EC2_VERSIONS).encode()
    if words[0] not in _EC2_VERSIONS:
        return None
    if words[1:] == ["user-data"]:
        return node.user_data or None
    return _find_leaf(node.ec2, words[1:])


def _find_leaf(tree: str | Tree, words: list[str]) -> bytes | None:
    for word in words:
        if isinstance(tree, str) or word not in tree:
            return None
        tree = tree[word]
    if isinstance(tree, str):
        return tree.encode()
    names = (name if isinstance(value, str) else f"{name}/" for name, value in tree.items())
    return "\n".join(names).encode()


def _find_openstack(node: NodeData, words: list[str]) -> bytes | None:
    if not words:
        return "\n".join(_OPENSTACK_VERSIONS).encode()
    documents = {
        "meta_data.json": json.dumps(node.openstack).encode(),
        "network_data.json": b'{"links": [], "networks": [], "services": []}',
        "vendor_data.json": b"{}",
        "vendor_data2.json": b"{}",
        "user_data": node.user_data,
    }
    if words[0] not in _OPENSTACK_VERSIONS:
        return None
    if len(words) == 1:
        return "\n".join(documents).encode()
    return documents.get(words[1]) or None if len(words) == 2 else None


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, listener: socket.socket, owner: MetadataService) -> None:
        self.owner = owner
        super().__init__(("", 0), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener

    def handle_error(self, request: object, client_address: object) -> None:
        """A node may die in mid-sentence."""


class MetadataService:
    """Serves on a listening socket, which it closes. A context manager."""

    def __init__(self, listener: socket.socket) -> None:
        self._nodes: dict[str, NodeData] = {}
        self._server = _Server(listener, self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="metadata"
        )

    def __enter__(self) -> MetadataService:
        self._thread.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def put(self, address: str, node: NodeData) -> None:
        self._nodes[address] = node

    def remove(self, address: str) -> None:
        self._nodes.pop(address, None)

    def find_node(self, address: str) -> NodeData | None:
        return self._nodes.get(address)
