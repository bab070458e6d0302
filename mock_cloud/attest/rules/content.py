# SPDX-License-Identifier: GPL-2.0-or-later
"""Texts that differ from node to node, and what they may say: never more than that.

Each grammar has only what can do no harm: no program to run, no name server outside of the node's
own networks, no option of the kernel.
"""

from __future__ import annotations

import ipaddress
import posixpath
import re
from collections.abc import Mapping
from typing import Final

from mock_cloud.wire.text_places import INTERFACE, TEXT_MAX, is_network_file

# RFC 1918, 3927, 4193, 4291, 6598, and loopback. Python's own is_global changes with its version.
_LOCAL_NETWORKS: Final = tuple(
    map(
        ipaddress.ip_network,
        ("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
         "192.168.0.0/16", "::1/128", "fc00::/7", "fe80::/10"),
    )
)  # fmt: skip
# resolv.conf(5). With more than one dot (ndots) every name would be looked up in a domain of
# `search` first, whoever has that.
_RESOLVER_OPTIONS: Final = frozenset({
    "edns0", "inet6", "ndots:0", "ndots:1", "no-aaaa", "no-reload", "no-tld-query", "rotate",
    "single-request", "single-request-reopen", "trust-ad", "use-vc",
    *(f"timeout:{number}" for number in range(1, 31)),
    *(f"attempts:{number}" for number in range(1, 6)),
})  # fmt: skip

_MACHINE_ID: Final = re.compile(r"(?:[0-9a-f]{32}\n|uninitialized\n)?")

_GRUBENV_BYTES: Final = 1024
_GRUBENV: Final = re.compile(
    r"# GRUB Environment Block\n(?:# WARNING: [A-Za-z0-9 -]{1,80}!*\n)?"
    r"(?P<lines>(?:[a-z_]+=[^\n]*\n)*)#*"
)
# Of what grub and its boot-success service count up; entries are files that are measured.
_GRUB_VALUES: Final = {
    "boot_success": "[01]",
    "boot_indeterminate": "[0-9]{1,4}",
    "menu_auto_hide": "[0-2]",
    "saved_entry": "[A-Za-z0-9][A-Za-z0-9._+~-]{0,200}",
}

_NAMES: Final = "[A-Za-z0-9_.][A-Za-z0-9_.-]{0,252}"
_SEARCH: Final = f"{_NAMES}(?:[ ;,]{_NAMES}){{0,32}};?"
_MAC: Final = "(?i:[0-9a-f]{2}(?::[0-9a-f]{2}){5})"
_BOOLEAN: Final = "(?:yes|no|true|false)"
_NUMBER: Final = "-?[0-9]{1,10}"
_LOCAL: Final = "local addresses"
"""In a table: addresses of the node's own networks, for name servers."""
_LOCAL_ONE: Final = "a local address"
_ADDRESS: Final = "addresses"
"""In a table: addresses with a prefix, a gateway, a metric."""

_NM_ADDRESSES: Final = {
    "method": "auto|manual|disabled|ignore|link-local|dhcp", "may-fail": _BOOLEAN,
    "address[0-9]+": _ADDRESS, "gateway": _ADDRESS, "route[0-9]+": _ADDRESS, "dns": _LOCAL,
    "dns-search": _SEARCH, "route-metric": _NUMBER, "ignore-auto-dns": _BOOLEAN,
    "addr-gen-mode": "eui64|stable-privacy|default", "never-default": _BOOLEAN,
}  # fmt: skip
_UUID: Final = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_NM: Final = {
    "connection": {
        "id": f"cloud-init {INTERFACE}", "uuid": _UUID,
        "autoconnect-priority": _NUMBER, "type": "ethernet", "interface-name": INTERFACE,
    },
    "user": {"org\\.freedesktop\\.NetworkManager\\.origin": "cloud-init"},
    "ethernet": {"mac-address": _MAC, "mtu": _NUMBER},
    "ipv4": _NM_ADDRESSES,
    "ipv6": _NM_ADDRESSES,
}  # fmt: skip
# NetworkManager's own of the loopback interface, since 1.42.
_NM_LOOPBACK: Final = {
    "connection": {
        "id": "lo", "uuid": _UUID, "type": "loopback", "interface-name": "lo",
        "autoconnect": _BOOLEAN, "timestamp": _NUMBER,
    },
    "loopback": {"mtu": _NUMBER},
    "ipv4": {"address1": "127\\.0\\.0\\.1/8", "method": "manual"},
    "ipv6": {
        "addr-gen-mode": "eui64|stable-privacy|default", "address1": "::1/128", "method": "manual",
    },
    "proxy": {},
    ".nmmeta": {"(?:nm-generated|volatile|external)": _BOOLEAN},
}  # fmt: skip
# Its own of an Ethernet device that nobody has configured: nm-device-ethernet.c.
_NM_WIRED: Final = {
    "connection": {
        "id": "Wired connection [0-9]{1,3}", "uuid": _UUID, "type": "ethernet",
        "autoconnect-priority": "-999", "interface-name": INTERFACE, "timestamp": _NUMBER,
    },
    "ethernet": {"mac-address": _MAC},
    "ipv4": {"method": "auto"},
    "ipv6": {"addr-gen-mode": "eui64|stable-privacy|default", "method": "auto"},
    "proxy": {},
    ".nmmeta": {"nm-generated": _BOOLEAN},
}  # fmt: skip
_NETWORKD_DHCP: Final = {
    "Use(?:DNS|MTU|NTP|Domains|Hostname|Routes)": _BOOLEAN, "RouteMetric": _NUMBER,
    "SendHostname": _BOOLEAN,
}  # fmt: skip
_NETWORKD: Final = {
    "Match": {"Name": INTERFACE, "MACAddress": _MAC},
    "Link": {"MTUBytes": _NUMBER},
    "Network": {
        "DHCP": "yes|no|ipv4|ipv6", "DNS": _LOCAL, "Domains": _SEARCH, "Address": _ADDRESS,
        "Gateway": _ADDRESS, "IPv6AcceptRA": _BOOLEAN,
    },
    "Address": {"Address": _ADDRESS},
    "Route": {
        "Gateway": _ADDRESS, "Destination": _ADDRESS, "Metric": _NUMBER, "GatewayOnLink": _BOOLEAN,
    },
    "DHCP": _NETWORKD_DHCP,
    "DHCPv4": _NETWORKD_DHCP,
    "DHCPv6": _NETWORKD_DHCP,
}  # fmt: skip
# A shell reads these: values are of letters that mean nothing to it.
_IFCFG: Final = {
    "": {
        "BOOTPROTO": "dhcp|none|static", "DEVICE": INTERFACE, "HWADDR": _MAC, "TYPE": "Ethernet",
        "(?:ONBOOT|USERCTL|DEFROUTE|NM_CONTROLLED|PEERDNS)": _BOOLEAN, "STARTMODE": "auto|manual",
        "(?:IPV6INIT|IPV6_AUTOCONF|IPV6_FORCE_ACCEPT_RA|DHCPV6C)": _BOOLEAN,
        "(?:AUTOCONNECT_PRIORITY|MTU|METRIC|PREFIX[0-9]*)": _NUMBER, "DNS[0-9]*": _LOCAL_ONE,
        "(?:IPADDR|NETMASK|GATEWAY)[0-9]*": _ADDRESS, "IPV6(?:ADDR|_DEFAULTGW)": _ADDRESS,
        "DOMAIN": _NAMES,
    }
}  # fmt: skip
_UDEV: Final = re.compile(
    'SUBSYSTEM=="net", ACTION=="add", DRIVERS=="\\?\\*", '
    f'ATTR\\{{address\\}}=="{_MAC}", NAME="{INTERFACE}"'
)

# systemd-update-done(8); cloudinit/net/network_manager.py, NM_IPV6_ADDR_GEN_CONF;
# cloudinit/distros/parsers/networkmanager_conf.py; cloudinit/ssh_util.py; tools/ds-identify;
# nvme-gen-hostnqn(1); iscsi-iname(8); tuned's profiles, which are measured.
_UPDATED: Final = "(?:# [ -~]{1,200}\n){1,4}TIMESTAMP_NSEC=[0-9]{1,20}\n"
_WRITTEN: Final = {
    "/etc/.updated": _UPDATED,
    "/var/.updated": _UPDATED,
    "/etc/NetworkManager/conf.d/30-cloud-init-ip6-addr-gen-mode.conf": (
        "(?:#[ -~]*\n)*\\[\\.config\\]\n  enable=nm-version-min:1\\.40\n"
        "\\[connection\\.30-cloud-init-ip6-addr-gen-mode\\]\n"
        "(?: *#[ -~]*\n)*  ipv6\\.addr-gen-mode=[0-3]\n+"
    ),
    "/etc/NetworkManager/conf.d/99-cloud-init.conf": ("(?:#[ -~]*\n)*\n?\\[main\\]\ndns = none\n+"),
    "/etc/ssh/sshd_config.d/50-cloud-init.conf": "(?:PasswordAuthentication no\n)?",
    "/etc/nvme/hostid": f"{_UUID}\n",
    "/etc/nvme/hostnqn": f"nqn\\.2014-08\\.org\\.nvmexpress:uuid:{_UUID}\n",
    "/etc/iscsi/initiatorname.iscsi": "InitiatorName=iqn\\.[a-z0-9.:-]{1,200}\n",
    "/etc/tuned/active_profile": "(?:[a-z0-9-]{1,40}(?: [a-z0-9-]{1,40}){0,5}\n)?",
    "/etc/tuned/profile_mode": "(?:auto|manual)\n",
    "/run/cloud-init/cloud.cfg": "datasource_list: \\[ [A-Za-z0-9]+(?:, [A-Za-z0-9]+)* \\]\n",
}

Table = Mapping[str, Mapping[str, str]]
_TABLES: Final[Mapping[str, Table]] = {
    "/etc/NetworkManager/system-connections": _NM,
    "/etc/sysconfig/network-scripts": _IFCFG,
    "/etc/systemd/network": _NETWORKD,
    "/run/NetworkManager/system-connections": _NM_LOOPBACK,
}


def is_machine_id(path: str, text: bytes) -> bool:
    """machine-id(5): 32 hexadecimal digits, or nothing before the first boot."""
    return _MACHINE_ID.fullmatch(_ascii(text)) is not None


def is_grubenv(path: str, text: bytes) -> bool:
    """GRUB's environment block, with the counters of boots and the name of an entry."""
    found = _GRUBENV.fullmatch(_ascii(text)) if len(text) == _GRUBENV_BYTES else None
    if found is None:
        return False
    pairs = [line.partition("=")[::2] for line in found["lines"].splitlines()]
    known = all(re.fullmatch(_GRUB_VALUES.get(key, "(?!)"), value) for key, value in pairs)
    return known and len(dict(pairs)) == len(pairs)


def is_resolv_conf(path: str, text: bytes) -> bool:
    """resolv.conf(5) with name servers of the node's own networks."""
    for line in _lines(text, "#;"):
        word, _, rest = line.partition(" ")
        rest = rest.strip()
        if word == "nameserver":
            fits = _are_local(rest)
        elif word in ("search", "domain"):
            fits = re.fullmatch(_SEARCH, rest) is not None
        else:
            fits = word == "options" and set(rest.split()) <= _RESOLVER_OPTIONS
        if not fits:
            return False
    return bool(text)


def is_written_text(path: str, text: bytes) -> bool:
    """What is written there on a first boot: nothing that could be chosen to any effect."""
    pattern = _WRITTEN.get(path)
    return pattern is not None and re.fullmatch(pattern, _ascii(text)) is not None


def is_network_configuration(path: str, text: bytes) -> bool:
    """What cloud-init writes of an interface, for NetworkManager, networkd, initscripts or udev."""
    directory, name = posixpath.split(path)
    if not text or not is_network_file(directory, name):
        return False
    table = _NM_WIRED if name.startswith("Wired ") else _TABLES.get(directory)
    if table is None:
        return all(_UDEV.fullmatch(line) for line in _lines(text))
    return _follows(text, table)


def _follows(text: bytes, table: Table) -> bool:
    keys = table.get("")
    for line in _lines(text):
        section = re.fullmatch(r"\[(\.?[A-Za-z0-9]+)\]", line)
        if section:
            keys = table.get(section[1])
            if keys is None:
                return False
            continue
        key, equals, value = line.partition("=")
        pattern = next((one for name, one in (keys or {}).items() if re.fullmatch(name, key)), None)
        quoted = re.fullmatch('"([^"]*)"', value)
        if not equals or pattern is None or not _is_value(quoted[1] if quoted else value, pattern):
            return False
    return True


def _is_value(value: str, pattern: str) -> bool:
    if pattern == _LOCAL_ONE:
        return _are_local(value) and _parse(value) is not None
    if pattern == _LOCAL:
        return _are_local(value)
    if pattern == _ADDRESS:
        return all(map(_is_address, value.strip(",;").split(",")))
    return re.fullmatch(f"(?:{pattern})", value) is not None


def _are_local(value: str) -> bool:
    """Addresses, with blanks or semicolons between: all in networks that nobody routes to others.

    One that holds another address (mapped, 6to4, Teredo) leads there, and is in none of them.
    """
    found = [_parse(one) for one in re.split("[ ;,]+", value.strip(" ;,"))]
    return all(
        one is not None and any(one in network for network in _LOCAL_NETWORKS) for one in found
    )


def _is_address(value: str) -> bool:
    """An address, with or without the length of its prefix; or the metric behind one."""
    address, slash, length = value.partition("/")
    if slash and not re.fullmatch("[0-9]{1,3}", length):
        return False
    return _parse(address) is not None or re.fullmatch("[0-9]{1,10}", value) is not None


def _parse(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        # No scope: it may hold anything.
        return ipaddress.ip_address(text) if "%" not in text else None
    except ValueError:
        return None


def _lines(text: bytes, comments: str = "#") -> list[str]:
    """The lines of an ASCII text that are no comments; of another text one that fits nothing.

    To a shell, which reads ifcfg files, a semicolon begins none.
    """
    return [line for line in _ascii(text).split("\n") if line and line[0] not in comments]


def _ascii(text: bytes) -> str:
    is_fine = (
        len(text) <= TEXT_MAX and text.isascii() and not re.search(rb"[\0-\x09\x0b-\x1f\x7f]", text)
    )
    return text.decode("ascii") if is_fine else "\0"
