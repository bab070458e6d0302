# SPDX-License-Identifier: GPL-2.0-or-later
"""Fills a fresh OpenStack: ``catalog`` (services and their user), ``projects`` (two, with things).

What tests need to know of it is written to /state/projects.json.
"""

import json
import sys
from pathlib import Path

import openstack


def connect(url, region, user="admin", password="admin", project="admin"):  # noqa: S107
    auth = {"auth_url": url, "username": user, "password": password, "project_name": project,
            "user_domain_id": "default", "project_domain_id": "default"}  # fmt: skip
    return openstack.connection.Connection(auth=auth, region_name=region, identity_api_version="3")


def catalog(url, region, *endpoints):
    identity = connect(url, region).identity
    project = identity.find_project("service") or identity.create_project(
        name="service", domain_id="default"
    )
    user = identity.find_user("service") or identity.create_user(
        name="service", domain_id="default", password="service", default_project_id=project.id
    )
    identity.assign_project_role_to_user(project, user, identity.find_role("admin"))
    there = {service.type: service for service in identity.services()}
    for one in endpoints:
        kind, address = one.split("=", 1)
        service = there.get(kind) or identity.create_service(type=kind, name=f"lab-{kind}")
        known = {found.interface for found in identity.endpoints(service_id=service.id)}
        for interface in {"public", "internal", "admin"} - known:
            identity.create_endpoint(
                service_id=service.id, interface=interface, url=address, region_id=region
            )


def projects(url, region):
    cloud = connect(url, region)
    identity = cloud.identity
    member = identity.find_role("member")
    made = {"keystone": url, "region": region}
    for name in ("builds", "other"):
        project = identity.create_project(name=name, domain_id="default")
        user = identity.create_user(name=name, domain_id="default", password=f"{name}-password")
        identity.assign_project_role_to_user(project, user, member)
        made[name] = {"project": project.id, "user": user.id, "password": f"{name}-password"}
    for name, vcpus, ram, disk in (
        ("lab.small", 1, 64, 1),
        ("lab.large", 2, 128, 1),
        ("lab.huge", 4000, 64, 1),  # more than the quota has
        ("lab.host", 1, 40_000, 1),  # more than a host has
        ("lab.diskless", 1, 64, 0),
    ):
        cloud.compute.create_flavor(name=name, vcpus=vcpus, ram=ram, disk=disk)
    image = cloud.image.create_image(
        name="lab-stock", disk_format="raw", container_format="bare", visibility="public",
        data=b"a disk", validate_checksum=False,
    )  # fmt: skip
    made["image"] = image.id
    outside = cloud.network.create_network(
        name="outside", is_router_external=True, provider_network_type="flat",
        provider_physical_network="ext",
    )  # fmt: skip
    cloud.network.create_subnet(
        network_id=outside.id, ip_version=4, cidr="203.0.113.0/24", enable_dhcp=False
    )
    mine = connect(url, region, "builds", "builds-password", "builds")
    for name, version, cidr in (
        ("inside", 4, "198.51.100.0/24"),
        ("second", 4, "192.0.2.0/24"),
        ("inside6", 6, "2001:db8:1::/64"),
    ):
        network = mine.network.create_network(name=name)
        subnet = mine.network.create_subnet(
            network_id=network.id, ip_version=version, cidr=cidr, name=name
        )
        if name == "inside":
            router = mine.network.create_router(
                name="router", external_gateway_info={"network_id": outside.id}
            )
            mine.network.add_interface_to_router(router, subnet_id=subnet.id)
    group = mine.network.create_security_group(name="ssh")
    mine.network.create_security_group_rule(
        security_group_id=group.id, direction="ingress", protocol="tcp", ethertype="IPv4",
        port_range_min=22, port_range_max=22,
    )  # fmt: skip
    credential = mine.identity.create_application_credential(made["builds"]["user"], name="lab")
    made["credential"] = {"id": credential.id, "secret": credential.secret}
    Path("/state/projects.json").write_text(json.dumps(made, indent=2))


if __name__ == "__main__":
    {"catalog": catalog, "projects": projects}[sys.argv[1]](*sys.argv[2:])
