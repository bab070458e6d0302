# SPDX-License-Identifier: GPL-2.0-or-later
"""EC2: moto's server, with a real node for each of its instances.

moto lacks client tokens, console output of ours, and states between running and terminated; they
are added here as Amazon's API reference has them. Addresses are replaced by the node's own.
"""

from __future__ import annotations

import base64
import platform
import threading
import time
import urllib.parse
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any
from xml.etree import ElementTree

from tests.lab.clouds import backend, ec2_xml
from tests.lab.clouds.aws import AmazonJudge
from tests.lab.clouds.backend import Backend
from tests.lab.clouds.cloud import Cloud, Listing
from tests.lab.clouds.ec2_metadata import describe, firmware
from tests.lab.clouds.faults import Exchange, Fault, Request, Response
from tests.lab.clouds.machines import Boot, Machine, State
from tests.lab.clouds.metadata import NodeData
from tests.lab.clouds.remotes import remote
from tests.lab.layout import Lab

REGION = "us-east-1"
SIZE = "t3.small"
ACCESS_KEY = "AKIALABLABLABLABLAB0"
"""Of the user who has the rights that docs/cloud-admin.md lists, and no others."""
ADMINISTRATOR = "AKIALABLABLABLABADM0"
"""Another key, of a user with all rights; both have the same secret."""
SECRET_KEY = "lab/secret+key/that/opens/nothing/anywhere"
_CONSOLE_MAX = 64 << 10  # as GetConsoleOutput has it
_STATE_CODES = {"pending": "0", "shutting-down": "32", "terminated": "48"}
_WOULD_SUCCEED = "Request would have succeeded, but DryRun flag is set."
_SIGNING = ("Signature", "Timestamp", "X-Amz-", "AWSAccessKeyId")
_ARCHES = {"x86_64": "x86_64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class _Doom:
    """When an instance is to be terminated by the cloud, and what it will say of it."""

    due_s: float
    code: str
    message: str


class Ec2Cloud(Cloud):
    """See the package. Instances are nodes by their instance ids."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab)
        self._lock = threading.Lock()
        self._tokens: dict[str, tuple[dict[str, str], Response]] = {}
        self._dooms: dict[str, _Doom] = {}
        self.page_max = 1000
        self._judge = AmazonJudge(ACCESS_KEY, ADMINISTRATOR, SECRET_KEY, self._tags_of)

    def make_backend(self) -> Backend:
        return backend.moto(self.site.directory)

    @cached_property
    def client(self) -> Any:
        """boto3's client of moto itself: neither the proxy's faults nor its view of things."""
        import boto3

        return boto3.client(
            "ec2",
            REGION,
            endpoint_url=self.backend.url,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
        )

    def _tags_of(self, resource: str) -> dict[str, str]:
        wanted = [{"Name": "resource-id", "Values": [resource]}]
        found = self.client.describe_tags(Filters=wanted)["Tags"]
        return {one["Key"]: one["Value"] for one in found}

    def register(self, name: str) -> str:
        answer = self.client.register_image(
            Name=name, Architecture=_ARCHES[platform.machine()], RootDeviceName="/dev/sda1"
        )
        return str(answer["ImageId"])

    def private_files(self) -> dict[str, str]:
        table = {
            "region": REGION,
            "endpoint": self.url,
            "access_key_id": ACCESS_KEY,
            "secret_access_key": SECRET_KEY,
        }
        return {"remotes.d/ec2.toml": remote(self, "ec2", SIZE, table)}

    def name(self, request: Request) -> Request:
        query = urllib.parse.urlsplit(request.path).query
        text = query if request.method == "GET" else request.body.decode(errors="replace")
        parameters = dict(urllib.parse.parse_qsl(text, keep_blank_values=True))
        return replace(request, operation=parameters.get("Action", ""), parameters=parameters)

    def act(self, request: Request) -> Response:
        """What EC2 does for a request."""
        credential = request.headers.get("Authorization", "") + request.path
        whose = urllib.parse.unquote(credential)
        if ACCESS_KEY not in whose and ADMINISTRATOR not in whose:
            text = "AWS was not able to validate the provided access credentials"
            return ec2_xml.error(401, "AuthFailure", text)
        refusal = self._judge.refusal(request, self.url)
        if refusal is not None:
            return refusal
        self._fulfil_dooms()
        if request.parameters.get("DryRun") == "true":
            return ec2_xml.error(412, "DryRunOperation", _WOULD_SUCCEED)
        if "MaxResults" in request.parameters:
            return self._page(request)
        handler = {
            "RunInstances": self._run,
            "TerminateInstances": self._terminate,
            "StopInstances": self._stop,
            "StartInstances": self._start,
            "GetConsoleOutput": self._console,
            "CreateImage": self._create_image,
            "DeregisterImage": self._deregister,
        }.get(request.operation)
        return self._forward(request) if handler is None else handler(request)

    def dying(self, code: str, message: str, after_s: float = 0.0) -> Fault:
        """A fault for RunInstances: what it makes stays pending and is terminated, saying why."""

        def doom(exchange: Exchange) -> Response:
            response = exchange.forward()
            for instance in ec2_xml.instance_ids(response):
                self._dooms[instance] = _Doom(time.monotonic() + after_s, code, message)
                self.site.destroy(instance)
            return replace(response, body=self._rewrite(response.body))

        return doom

    def end(self, instance: str, code: str, message: str) -> None:
        """Terminate an instance that runs, as the cloud itself may do, saying why."""
        self._dooms[instance] = _Doom(0, code, f"{code}: {message}")
        self.client.terminate_instances(InstanceIds=[instance])
        self.site.destroy(instance)

    def on_end(self, machine: Machine) -> None:
        """A node that powers itself off is stopped or terminated, as its creator chose."""
        if machine.state is State.STOPPED or machine.name in self._dooms:
            return
        behaviour = "instanceInitiatedShutdownBehavior"
        found = self.client.describe_instance_attribute(
            InstanceId=machine.name, Attribute=behaviour
        )
        chosen = found["InstanceInitiatedShutdownBehavior"].get("Value", "stop")
        if chosen == "stop" and machine.state is State.POWERED_OFF:
            self.client.stop_instances(InstanceIds=[machine.name])
            return
        if machine.state is State.POWERED_OFF:
            code = "Client.InstanceInitiatedShutdown"
            doom = _Doom(0, code, f"{code}: Instance initiated shutdown")
        else:
            doom = _Doom(0, "Server.InternalError", f"Server.InternalError: {machine.problem}")
        self._dooms[machine.name] = doom
        self.client.terminate_instances(InstanceIds=[machine.name])
        self.site.destroy(machine.name)

    def reset(self) -> None:
        """Delete whatever `listing` shows, lift all faults, forget all calls."""
        self.faults.clear()
        found, client = self.listing(), self.client
        if found.instances:
            client.terminate_instances(InstanceIds=list(found.instances))
        self.remove_machines()
        for volume in self.listing().volumes:
            client.delete_volume(VolumeId=volume)
        for name in found.key_pairs:
            client.delete_key_pair(KeyName=name)
        for address in found.addresses:
            client.release_address(PublicIp=address)
        for image in found.images:
            client.deregister_image(ImageId=image)
            self.drop_disk(image)
        for group in found.groups:
            client.delete_security_group(GroupId=group)
        self.pending_s, self.early_sshd, self.page_max = 0.0, False, 1000
        self.proxy.disconnect()
        self.calls.clear()
        with self._lock:
            self._tokens.clear()

    def listing(self) -> Listing:
        client = self.client
        groups = client.describe_security_groups()["SecurityGroups"]
        return Listing(
            instances=tuple(
                instance["InstanceId"]
                for reservation in client.describe_instances()["Reservations"]
                for instance in reservation["Instances"]
                if instance["State"]["Name"] != "terminated"
            ),
            key_pairs=tuple(one["KeyName"] for one in client.describe_key_pairs()["KeyPairs"]),
            volumes=tuple(one["VolumeId"] for one in client.describe_volumes()["Volumes"]),
            addresses=tuple(one["PublicIp"] for one in client.describe_addresses()["Addresses"]),
            groups=tuple(one["GroupId"] for one in groups if one["GroupName"] != "default"),
            images=tuple(
                one["ImageId"]
                for one in client.describe_images(Owners=["self"])["Images"]
                if one["ImageId"] not in self.stock_images
            ),
        )

    def _page(self, request: Request) -> Response:
        """A part of a list; with `page_max` a small one, as EC2 may choose itself."""
        start = int(request.parameters.get("NextToken", "from-0").removeprefix("from-"))
        length = min(int(request.parameters["MaxResults"]), self.page_max)
        parameters = {
            name: value
            for name, value in request.parameters.items()
            if name not in ("MaxResults", "NextToken")
        }
        body = urllib.parse.urlencode(parameters).encode()
        response = self._forward(replace(request, parameters=parameters, body=body))
        if response.status != 200:
            return response
        return replace(response, body=ec2_xml.page(response.body, start, length))

    def _forward(self, request: Request) -> Response:
        response = self.ask(request)
        version = request.parameters.get("Version", "2016-11-15")
        if response.status != 200:
            return response
        return replace(response, body=self._rewrite(ec2_xml.set_namespace(response.body, version)))

    def _run(self, request: Request) -> Response:
        """RunInstances, with what the API reference says of client tokens."""
        token = request.parameters.get("ClientToken", "")
        asked = {k: v for k, v in request.parameters.items() if not k.startswith(_SIGNING)}
        with self._lock:  # two requests with one token at once are one
            if token in self._tokens:
                before, response = self._tokens[token]
                if before == asked:
                    return replace(response, body=self._rewrite(response.body))
                text = "The client token was used with other parameters"
                return ec2_xml.error(400, "IdempotentParameterMismatch", text)
            response = self.ask(_with_sizes(request))
            if response.status != 200:
                return response
            version = request.parameters.get("Version", "2016-11-15")
            response = replace(response, body=ec2_xml.set_namespace(response.body, version))
            if token:
                self._tokens[token] = (asked, response)
            for instance in ec2_xml.instances(response.body):
                self._boot(instance, request)
        return replace(response, body=self._rewrite(response.body))

    def _boot(self, instance: ElementTree.Element, request: Request) -> None:
        name, image = ec2_xml.text(instance, "instanceId"), ec2_xml.text(instance, "imageId")
        user_data = base64.b64decode(request.parameters.get("UserData", ""))
        key_name = request.parameters.get("KeyName")
        key = self._public_key(key_name) if key_name else ""
        required = request.parameters.get("MetadataOptions.HttpTokens") == "required"
        hops = int(request.parameters.get("MetadataOptions.HttpPutResponseHopLimit", "64"))
        boot = Boot(
            self.disk(image),
            lambda port: NodeData(
                user_data, describe(instance, port, key), must_use_token=required, hop_limit=hops
            ),
            {**self.node_environment(), **firmware(name)},
            system=self.system,
            clock=self.clock,
        )
        self.site.boot(name, boot)

    def _public_key(self, name: str) -> str:
        found = self.client.describe_key_pairs(KeyNames=[name], IncludePublicKey=True)
        return str(found["KeyPairs"][0].get("PublicKey", "")).strip()

    def _terminate(self, request: Request) -> Response:
        response = self._forward(request)
        if response.status == 200:
            for instance in ec2_xml.listed(request.parameters, "InstanceId"):
                self.site.destroy(instance)
        return response

    def _stop(self, request: Request) -> Response:
        response = self._forward(request)
        if response.status == 200:
            for instance in ec2_xml.listed(request.parameters, "InstanceId"):
                machine = self.site.find(instance)
                if machine is not None:
                    machine.stop()
        return response

    def _start(self, request: Request) -> Response:
        response = self._forward(request)
        if response.status == 200:
            for instance in ec2_xml.listed(request.parameters, "InstanceId"):
                machine = self.site.find(instance)
                if machine is not None and machine.state is not State.RUNNING:
                    machine.start()
        return response

    def _console(self, request: Request) -> Response:
        instance = request.parameters.get("InstanceId", "")
        console = self.site.console(instance)
        if console is None:
            return self._forward(request)
        output = console.encode()[-_CONSOLE_MAX:]
        version = request.parameters.get("Version", "2016-11-15")
        return ec2_xml.console_output(version, instance, output)

    def _create_image(self, request: Request) -> Response:
        response = self._forward(request)
        machine = self.site.find(request.parameters.get("InstanceId", ""))
        if response.status == 200 and machine is not None:
            self.keep_disk(ec2_xml.image_id(response.body), machine)
        return response

    def _deregister(self, request: Request) -> Response:
        response = self._forward(request)
        if response.status == 200:
            self.drop_disk(request.parameters.get("ImageId", ""))
        return response

    def _fulfil_dooms(self) -> None:
        for instance, doom in tuple(self._dooms.items()):
            if 0 < doom.due_s <= time.monotonic():
                self._dooms[instance] = replace(doom, due_s=0)
                self.client.terminate_instances(InstanceIds=[instance])

    def _rewrite(self, body: bytes) -> bytes:
        """Instances as they are: the node's address, its true state, and reasons."""
        if b"instanceState>" not in body:
            return body
        root = ElementTree.fromstring(body)  # noqa: S314 (moto's own)
        for instance in ec2_xml.instances_in(root):
            self._rewrite_one(instance)
        return ec2_xml.to_bytes(root)

    def _rewrite_one(self, instance: ElementTree.Element) -> None:
        name = ec2_xml.text(instance, "instanceId")
        state = ec2_xml.text(instance, "instanceState/name")
        machine, doom = self.site.find(name), self._dooms.get(name)
        if doom is not None and doom.due_s:
            ec2_xml.set_state(instance, "pending", _STATE_CODES["pending"])
        elif doom is not None and state == "terminated":
            ec2_xml.set_reason(instance, doom.code, doom.message)
        elif machine is not None and state == "running" and self._is_pending(machine):
            ec2_xml.set_state(instance, "pending", _STATE_CODES["pending"])
        if machine is None or state == "terminated":
            ec2_xml.remove_addresses(instance)
        else:
            ec2_xml.set_addresses(instance, machine.address)

    def _is_pending(self, machine: Machine) -> bool:
        young = time.time() < machine.started_unix + self.pending_s
        return young or machine.state is State.STARTING


def _with_sizes(request: Request) -> Request:
    """With a size for each volume that has none: EC2 takes the image's, moto refuses."""
    numbers = {
        key.split(".")[1]
        for key in request.parameters
        if key.startswith("BlockDeviceMapping.") and ".Ebs." in key
    }
    sizes = {f"BlockDeviceMapping.{number}.Ebs.VolumeSize": "8" for number in sorted(numbers)}
    text = urllib.parse.urlencode({**sizes, **request.parameters})
    if request.method == "GET":
        path = urllib.parse.urlsplit(request.path)._replace(query=text)
        return replace(request, path=path.geturl())
    return replace(request, body=text.encode())
