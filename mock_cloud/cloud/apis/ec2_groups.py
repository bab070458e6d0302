# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether an instance's security groups let this machine reach its sshd, put into words."""

from __future__ import annotations

import ipaddress
import socket
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from mock_cloud.cloud.apis.ec2_answers import items_at, text_at
from mock_cloud.cloud.apis.ec2_connection import Ec2Connection
from mock_cloud.cloud.apis.ec2_requests import numbered

_SSH_PORT: Final = 22
_SHOWN: Final = 5

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def explain_groups(connection: Ec2Connection, groups: Sequence[str], address: str) -> str:
    """Why no connection from here to `address` may be admitted; empty if one should be."""
    answer = connection.read("DescribeSecurityGroups", numbered("GroupId", groups))
    found = list(ssh_sources(items_at(answer, "securityGroupInfo")))
    return explain_rules(groups, found, find_own_address(address))


def explain_rules(groups: Sequence[str], sources: Sequence[str], own: str) -> str:
    """The same from facts: `sources` are who may reach port 22, `own` is who we are.

    Where `own` is not a public address somebody translates it on the way, and all one can say is
    whom the rules name.
    """
    names = ", ".join(groups)
    if not sources:
        return f"no rule of its security groups ({names}) opens port 22"
    networks = [network for network in map(_network, sources) if network is not None]
    if len(networks) < len(sources):
        return ""  # rules by group or prefix list: who is in there is not known here
    shown = ", ".join(sources[:_SHOWN])
    mine = ipaddress.ip_address(own) if own else None
    if mine is not None and mine.version in {network.version for network in networks}:
        if any(mine in network for network in networks if network.version == mine.version):
            return ""
        if mine.is_global:
            return (
                f"its security groups ({names}) open port 22 to {shown}, and not to this machine's"
                f" address {own}: has that changed?"
            )
    if all(network.num_addresses == 1 for network in networks):
        return (
            f"its security groups ({names}) open port 22 to {shown} only:"
            " has this machine's public address changed?"
        )
    return ""


def ssh_sources(groups: Iterable[ET.Element]) -> Iterator[str]:
    """Who may reach tcp port 22 by groups that EC2 describes: networks, groups, lists."""
    for group in groups:
        for rule in items_at(group, "ipPermissions"):
            if not _is_for_ssh(rule):
                continue
            for path, field in (
                ("ipRanges", "cidrIp"),
                ("ipv6Ranges", "cidrIpv6"),
                ("groups", "groupId"),
                ("prefixListIds", "prefixListId"),
            ):
                yield from filter(None, (text_at(item, field) for item in items_at(rule, path)))


def find_own_address(peer: str) -> str:
    """The address from which this machine would reach `peer`, if it would. Sends nothing."""
    try:
        family = socket.AF_INET6 if ":" in peer else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((peer, _SSH_PORT))
            return str(probe.getsockname()[0])
    except OSError:
        return ""


def _is_for_ssh(rule: ET.Element) -> bool:
    protocol = text_at(rule, "ipProtocol")
    if protocol == "-1":
        return True
    if protocol not in ("tcp", "6"):
        return False
    try:
        first, last = int(text_at(rule, "fromPort")), int(text_at(rule, "toPort"))
    except ValueError:
        return False
    return first <= _SSH_PORT <= last or first == -1


def _network(text: str) -> Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
