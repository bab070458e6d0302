# SPDX-License-Identifier: GPL-2.0-or-later
"""What Amazon refuses and moto does not: requests against Amazon's own description of its API.

botocore is the judge: its data files have the shapes of all parameters, its signer is another one
than libcloud's. What only the API reference says in words is in `_RULES`.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any

from tests.lab.clouds import ec2_xml
from tests.lab.clouds.faults import Request, Response
from tests.lab.clouds.iam import TagsOf, denial

Parameters = Mapping[str, str]

_CREDENTIAL = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8}/([^/]+)/ec2/aws4_request), ?"
    r"SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})"
)
_USER_DATA_MAX = 16384


class AmazonJudge:
    """Refuses what Amazon would. `secret_key` belongs to both access keys that there are.

    The first one's user has the rights of `tests.lab.clouds.iam`, which asks for resources' tags.
    """

    def __init__(
        self, access_key: str, administrator: str, secret_key: str, tags_of: TagsOf
    ) -> None:
        self._user = access_key
        self._keys = access_key, administrator
        self._secret_key = secret_key
        self._tags_of = tags_of

    @cached_property
    def _model(self) -> Any:
        from botocore.session import get_session

        return get_session().get_service_model("ec2", api_version="2016-11-15")

    def refusal(self, request: Request, url: str) -> Response | None:
        """Amazon's refusal of a request that was sent to `url`; None if it would be taken."""
        if not self._is_signed(request, url):
            text = "The request signature we calculated does not match the signature you provided."
            return ec2_xml.error(403, "SignatureDoesNotMatch", text)
        for problem in self._problems(request.operation, dict(request.parameters)):
            return ec2_xml.error(400, "InvalidParameterValue", f"{request.operation}: {problem}")
        denied = denial(request.operation, request.parameters, self._tags_of)
        if denied and self._user in request.headers.get("Authorization", ""):
            text = f"You are not authorized to perform this operation: {denied}"
            return ec2_xml.error(403, "UnauthorizedOperation", text)
        return None

    def _problems(self, action: str, sent: dict[str, str]) -> Iterator[str]:
        from botocore.serialize import create_serializer
        from botocore.validate import ParamValidator

        sent.pop("Action")
        if sent.pop("Version", "") != self._model.api_version:
            yield "another version of the API than botocore's"
        if action not in self._model.operation_names:
            yield "no such action"
            return
        model = self._model.operation_model(action)
        given = {} if model.input_shape is None else _parse(model.input_shape, "", sent)
        if model.input_shape is not None:
            report = ParamValidator().validate(given, model.input_shape)
            if report.has_errors():
                yield str(report.generate_report())
                return
            yield from _unknown_words(given, model.input_shape)
        written = create_serializer("ec2").serialize_to_request(given, model)["body"]
        told = {name: str(value) for name, value in written.items()}
        for name in sorted(sent.keys() - told.keys()):
            yield f"no parameter {name}"
        for name in sorted(sent.keys() & told.keys()):
            if sent[name] != told[name]:
                yield f"{name} is not written so"
        for rule in _RULES:
            yield from rule(action, sent)

    def _is_signed(self, request: Request, url: str) -> bool:
        """Whether botocore computes the same signature for what was sent."""
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials

        class Signer(SigV4Auth):  # type: ignore[misc]
            def headers_to_sign(self, request: Any) -> Any:
                return request.headers  # the user agent too, which botocore's client leaves out

        headers = {name.lower(): value for name, value in request.headers.items()}
        found = _CREDENTIAL.fullmatch(headers.get("authorization", ""))
        if found is None or found[1] not in self._keys or "x-amz-date" not in headers:
            return False
        signer = Signer(Credentials(found[1], self._secret_key), "ec2", found[3])
        signed = {name: headers.get(name, "") for name in found[4].split(";")}
        again = AWSRequest(request.method, url + request.path, signed, request.body)
        again.context["timestamp"] = headers["x-amz-date"]
        text = signer.string_to_sign(again, signer.canonical_request(again))
        named = found[4].split(";")
        must = {"host", *(name for name in headers if name.startswith("x-amz-"))}
        return must <= set(named) and signer.signature(text, again) == found[5]


def _parse(shape: Any, prefix: str, sent: Parameters) -> Any:
    """The value that botocore's serializer would have written so; names that no shape has stay."""
    if shape.type_name == "structure":
        found = {}
        for name, member in shape.members.items():
            word = member.serialization.get("queryName") or member.serialization.get("name", name)
            path = f"{prefix}{word[0].upper()}{word[1:]}"
            if any(key == path or key.startswith(f"{path}.") for key in sent):
                is_leaf = member.type_name not in ("structure", "list")
                found[name] = _parse(member, path if is_leaf else f"{path}.", sent)
        return found
    if shape.type_name == "list":
        values = []
        while any(_is_below(key, f"{prefix}{len(values) + 1}") for key in sent):
            path = f"{prefix}{len(values) + 1}"
            is_leaf = shape.member.type_name not in ("structure", "list")
            values.append(_parse(shape.member, path if is_leaf else f"{path}.", sent))
        return values
    return _LEAVES.get(shape.type_name, str)(sent[prefix])


def _is_below(key: str, path: str) -> bool:
    return key == path or key.startswith(f"{path}.")


def _number(text: str) -> int | str:
    return int(text) if re.fullmatch(r"-?\d+", text) else text


def _truth(text: str) -> bool | str:
    return text == "true" if text in ("true", "false") else text


_LEAVES: Mapping[str, Callable[[str], Any]] = {
    "integer": _number,
    "long": _number,
    "boolean": _truth,
    "blob": base64.b64decode,
}


def _unknown_words(value: Any, shape: Any) -> Iterator[str]:
    """Words that are none of those that the model lists, which botocore leaves to the service."""
    if shape.type_name == "structure":
        for name, inner in value.items():
            yield from _unknown_words(inner, shape.members[name])
    elif shape.type_name == "list":
        for inner in value:
            yield from _unknown_words(inner, shape.member)
    elif getattr(shape, "enum", ()) and value not in shape.enum:
        yield f"{value!r} is none of {', '.join(shape.enum[:5])}"


def _pages(action: str, sent: Parameters) -> Iterator[str]:
    """A list by ids has no pages; those of Describe… have 5 entries at least."""
    if "MaxResults" in sent and any(re.fullmatch(r"[A-Za-z]+Id\.1", name) for name in sent):
        yield "MaxResults goes with filters, not with ids"
    if not 5 <= int(sent.get("MaxResults", "5")) <= 1000:
        yield "MaxResults is from 5 to 1000"


def _launches(action: str, sent: Parameters) -> Iterator[str]:
    if action != "RunInstances":
        return
    has_interface = any(name.startswith("NetworkInterface.") for name in sent)
    if has_interface and any(name.startswith(("SecurityGroup", "SubnetId")) for name in sent):
        yield "groups and subnets belong to the network interface, where there is one"
    if len(base64.b64decode(sent.get("UserData", ""))) > _USER_DATA_MAX:
        yield "user data is limited to 16384 bytes"
    if len(sent.get("ClientToken", "")) > 64 or not sent.get("ClientToken", "").isascii():
        yield "a client token has 64 ASCII characters at most"


def _tags(action: str, sent: Parameters) -> Iterator[str]:
    for name, value in sent.items():
        is_key = re.search(r"(^|\.)Tag\.\d+\.Key$", name) is not None
        if is_key and (len(value) > 127 or value.lower().startswith("aws:")):
            yield f"{value!r} is no key of a tag"
        if re.search(r"(^|\.)Tag\.\d+\.Value$", name) and len(value) > 255:
            yield "a tag's value has 255 characters at most"


_RULES: tuple[Callable[[str, Parameters], Iterator[str]], ...] = (_pages, _launches, _tags)
