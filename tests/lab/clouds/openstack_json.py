# SPDX-License-Identifier: GPL-2.0-or-later
"""OpenStack's JSON: answers and errors in the words of its services, and faults made of them."""

from __future__ import annotations

import json
from typing import Any

from tests.lab.clouds.faults import Exchange, Fault, Request, Response

_JSON = {"Content-Type": "application/json"}


def answer(status: int, value: object = None, **headers: str) -> Response:
    """`value` as JSON; None for no body. `headers`: underscores become dashes."""
    given = {name.replace("_", "-"): text for name, text in headers.items()}
    body = b"" if value is None else json.dumps(value).encode()
    return Response(status, body, {**_JSON, **given})


def compute_error(status: int, kind: str, message: str) -> Response:
    """As Nova words it: the kind of fault names the object."""
    return answer(status, {kind: {"code": status, "message": message}})


def identity_error(status: int, title: str, message: str) -> Response:
    """As Keystone words it."""
    return answer(status, {"error": {"code": status, "title": title, "message": message}})


def not_found(what: str) -> Response:
    return compute_error(404, "itemNotFound", f"{what} could not be found.")


def read(request: Request) -> dict[str, Any]:
    """The object in a request's body; empty for anything else."""
    try:
        value = json.loads(request.body or b"{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def failing(status: int, kind: str, message: str) -> Fault:
    """A fault: always this error of Nova's."""
    return lambda exchange: compute_error(status, kind, message)


def over_quota() -> Fault:
    text = "Quota exceeded for instances: Requested 1, but already used 10 of 10 instances"
    return failing(403, "forbidden", text)


def empty_list(exchange: Exchange) -> Response:
    """A fault: no servers at all, from a cell that lags behind."""
    return answer(200, {"servers": []})
