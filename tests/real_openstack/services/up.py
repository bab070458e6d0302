# SPDX-License-Identifier: GPL-2.0-or-later
"""Brings OpenStack's services up inside of the tree, and stays until it is ended.

Keystone, Glance, Placement, Nova (API, conductor, scheduler, one compute) and Neutron (no agents)
on one address, without systemd. All they write is below STATE, which may be kept for the next time.
Argument: the first of nine ports; at the last one tests may serve guests (`lab_nova`). What answers
is told as a line ``ready: NAME``.

Facts that cost time: uwsgi listens before it has loaded its application; it needs `Connection:
close`; Nova finds drivers below nova.virt only; RabbitMQ's own wrapper wants another user; a
password of Keystone's costs seconds unless its rounds are few.
"""

import configparser
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

STATE, HERE = Path("/state"), Path("/services")
IP, REGION = "127.0.0.1", "RegionOne"
HOSTS = ("lab", "lab-2")  # hypervisors, for two zones
PAGE = "20"  # servers in a page of Nova's, whatever is asked for
BASE = int(sys.argv[1])
NAMES = (
    "keystone",
    "glance",
    "placement",
    "nova",
    "neutron",
    "rabbit",
    "rabbit_dist",
    "epmd",
    "guests",
)
PORTS = {name: BASE + number for number, name in enumerate(NAMES)}
SOCKET = STATE / "mysql.sock"
RABBIT = f"rabbit://guest:guest@{IP}:{PORTS['rabbit']}/"
DATABASES = ("keystone", "glance", "placement", "nova_api", "nova_cell0", "nova", "neutron")
ENDPOINTS = {
    "image": f"http://{IP}:{PORTS['glance']}",
    "placement": f"http://{IP}:{PORTS['placement']}",
    "compute": f"http://{IP}:{PORTS['nova']}/v2.1",
    "network": f"http://{IP}:{PORTS['neutron']}",
}
KEYSTONE = f"http://{IP}:{PORTS['keystone']}/v3"
started: dict[str, subprocess.Popen] = {}


def database(name):
    where = f"mysql+pymysql://root@localhost/{name}"
    return {"connection": f"{where}?unix_socket={SOCKET}&charset=utf8"}


def service_user(**more):
    return {
        "auth_url": KEYSTONE,
        "auth_type": "password",
        "project_domain_name": "Default",
        "user_domain_name": "Default",
        "project_name": "service",
        "username": "service",
        "password": "service",
        "region_name": REGION,
        **more,
    }


def validator():
    own = {"service_token_roles": "admin", "service_token_roles_required": "true"}
    return service_user(www_authenticate_uri=KEYSTONE, **own)


def write(path, sections):
    parser = configparser.RawConfigParser()
    parser.read_dict(sections)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as stream:
        parser.write(stream)


def write_configurations():
    write(STATE / "keystone/keystone.conf", {
        "DEFAULT": {"use_stderr": "true"},
        "database": database("keystone"),
        "identity": {"password_hash_rounds": "4"},
        "token": {"expiration": os.environ.get("TOKEN_TTL", "3600")},
        "fernet_tokens": {"key_repository": STATE / "keystone/fernet"},
        "credential": {"key_repository": STATE / "keystone/credential"},
        "cache": {"enabled": "false"},
    })  # fmt: skip
    write(STATE / "glance/glance-api.conf", {
        "DEFAULT": {"bind_host": IP, "bind_port": PORTS["glance"], "workers": "0",
                    "use_stderr": "true"},
        "database": database("glance"),
        "glance_store": {"stores": "file", "default_store": "file",
                         "filesystem_store_datadir": STATE / "glance/images"},
        "paste_deploy": {"flavor": "keystone",
                         "config_file": "/usr/share/glance-common/glance-api-paste.ini"},
        "oslo_concurrency": {"lock_path": STATE / "glance/lock"},
        "keystone_authtoken": validator(),
    })  # fmt: skip
    write(STATE / "placement/placement.conf", {
        "DEFAULT": {"use_stderr": "true"},
        "placement_database": database("placement"),
        "api": {"auth_strategy": "keystone"},
        "keystone_authtoken": validator(),
    })  # fmt: skip
    write(STATE / "nova/nova.conf", {
        "DEFAULT": {"use_stderr": "true", "my_ip": IP, "transport_url": RABBIT,
                    "state_path": STATE / "nova", "compute_driver": "lab_nova.Driver",
                    "reserved_host_memory_mb": "0", "osapi_compute_workers": "1",
                    "rpc_response_timeout": "180", "service_down_time": "3600",
                    "allow_resize_to_same_host": "true"},
        "api": {"auth_strategy": "keystone", "max_limit": PAGE},
        "api_database": database("nova_api"),
        "database": database("nova"),
        "conductor": {"workers": "1"},
        "scheduler": {"workers": "1"},
        "vnc": {"enabled": "false"},
        "glance": {"api_servers": ENDPOINTS["image"]},
        "oslo_concurrency": {"lock_path": STATE / "nova/lock"},
        "wsgi": {"api_paste_config": STATE / "nova/api-paste.ini"},
        "keystone_authtoken": validator(),
        "service_user": service_user(send_service_user_token="false"),
        "neutron": service_user(),
        "placement": service_user(),
    })  # fmt: skip
    for host in HOSTS:
        write(STATE / f"nova/{host}.conf", {"DEFAULT": {"host": host}})
    paste = Path("/usr/share/nova-common/api-paste.ini")
    (STATE / "nova/api-paste.ini").write_bytes(paste.read_bytes())
    write(STATE / "neutron/neutron.conf", {
        "DEFAULT": {"use_stderr": "true", "bind_host": IP, "bind_port": PORTS["neutron"],
                    "core_plugin": "ml2", "service_plugins": "router", "auth_strategy": "keystone",
                    "transport_url": RABBIT, "state_path": STATE / "neutron",
                    "api_paste_config": "/usr/share/neutron-common/api-paste.ini",
                    "api_workers": "0", "rpc_workers": "0", "rpc_state_report_workers": "0",
                    "dhcp_agent_notification": "false"},
        "database": database("neutron"),
        "oslo_concurrency": {"lock_path": STATE / "neutron/lock"},
        "ml2": {"type_drivers": "local,flat", "tenant_network_types": "local",
                "mechanism_drivers": "lab", "extension_drivers": "port_security"},
        "ml2_type_flat": {"flat_networks": "*"},
        "keystone_authtoken": validator(),
        "nova": service_user(),
    })  # fmt: skip


def log(name):
    (STATE / "log").mkdir(parents=True, exist_ok=True)
    return (STATE / f"log/{name}.log").open("ab")


def start(name, *argv, **environment):
    env = {**os.environ, "HOME": str(STATE), "PYTHONPATH": str(HERE), **environment}
    with log(name) as output:
        started[name] = subprocess.Popen(
            list(map(str, argv)), stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT, env=env,
        )  # fmt: skip
    (STATE / f"pid.{name}").write_text(f"{started[name].pid}\n")


def run(name, *argv, codes=(0,)):
    env = {**os.environ, "HOME": str(STATE), "PYTHONPATH": str(HERE)}
    with log(name) as output:
        code = subprocess.call(list(map(str, argv)), stdout=output, stderr=output, env=env)
    if code not in codes:
        raise SystemExit(f"{argv[0]} failed with {code}: see {STATE}/log/{name}.log")


def wait(name, is_ready, seconds=1800):
    deadline = time.monotonic() + seconds
    while not is_ready():
        ended = [one for one, process in started.items() if process.poll() is not None]
        if ended or time.monotonic() > deadline:
            raise SystemExit(f"{name} is not ready; ended: {ended}; see {STATE}/log")
        time.sleep(0.2)
    print(f"ready: {name}", flush=True)


def answers(name):
    def ask():
        try:
            urllib.request.urlopen(f"http://{IP}:{PORTS[name]}/", timeout=60).close()
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True

    return ask


def sql(statement):
    argv = ["mariadb", "--no-defaults", f"--socket={SOCKET}", "-u", "root", "-N", "-e", statement]
    found = subprocess.run(argv, capture_output=True, check=False)
    return found.stdout.decode().strip() if found.returncode == 0 else None


def start_databases():
    if not (STATE / "mysql/mysql").exists():
        run("mariadb", "mariadb-install-db", "--no-defaults", f"--datadir={STATE}/mysql",
            "--user=root", "--auth-root-authentication-method=socket",
            "--skip-test-db")  # fmt: skip
    start("mariadb", "mariadbd", "--no-defaults", "--user=root", f"--datadir={STATE}/mysql",
          "--skip-networking", f"--socket={SOCKET}", f"--pid-file={STATE}/mysql.pid",
          "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=64M",
          "--performance-schema=off", "--max-connections=300")  # fmt: skip
    start("epmd", "epmd", "-port", PORTS["epmd"], "-address", IP)
    (rabbit,) = Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-server")
    start("rabbit", rabbit, ERL_EPMD_PORT=str(PORTS["epmd"]), ERL_EPMD_ADDRESS=IP,
          RABBITMQ_NODENAME="lab@localhost", RABBITMQ_NODE_IP_ADDRESS=IP,
          RABBITMQ_NODE_PORT=str(PORTS["rabbit"]), RABBITMQ_DIST_PORT=str(PORTS["rabbit_dist"]),
          RABBITMQ_MNESIA_BASE=f"{STATE}/rabbit", RABBITMQ_LOG_BASE=f"{STATE}/log",
          RABBITMQ_CONF_ENV_FILE="/dev/null", RABBITMQ_CONFIG_FILE=f"{STATE}/none",
          RABBITMQ_ENABLED_PLUGINS_FILE=f"{STATE}/plugins", RABBITMQ_LOGS="-",
          RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1}",
    )  # fmt: skip
    wait("mariadb", lambda: sql("select 1") is not None)
    for name in DATABASES:
        sql(f"create database if not exists {name} character set utf8")


def start_wsgi(name, threads, **environment):
    start(name, "uwsgi-core", "--plugin", "python3", "--http-socket", f"{IP}:{PORTS[name]}",
          "--module", f"{name}_wsgi", "--processes", 1, "--threads", threads, "--thunder-lock",
          "--enable-threads", "--buffer-size", 65535, "--post-buffering", 65536,
          "--add-header", "Connection: close", "--die-on-term", "--need-app",
          "--log-format", '%(method) %(uri) %(status) "%(uagent)"', **environment)  # fmt: skip


def start_python(name, module, config):
    start(name, "/usr/bin/python3", "-c", f"from {module} import main; main()",
          "--config-file", config)  # fmt: skip


def make_users(config):
    manage = ("keystone", "keystone-manage", "--config-file", config)
    own = ("--keystone-user", "root", "--keystone-group", "root")
    for name in ("fernet", "credential"):
        (STATE / "keystone" / name).mkdir(mode=0o700, exist_ok=True)
    run(*manage, "db_sync")
    run(*manage, "fernet_setup", *own)
    run(*manage, "credential_setup", *own)
    urls = [w for kind in ("admin", "internal", "public")
            for w in (f"--bootstrap-{kind}-url", KEYSTONE + "/")]  # fmt: skip
    run(*manage, "bootstrap", "--bootstrap-password", "admin", "--bootstrap-region-id", REGION,
        *urls)  # fmt: skip


def start_keystone():
    config = STATE / "keystone/keystone.conf"
    once("users", lambda: make_users(config))
    start_wsgi("keystone", 4, OS_KEYSTONE_CONFIG_FILES=str(config))
    wait("keystone", answers("keystone"))


def once(name, act):
    """Whatever took minutes is not done again, should what comes after it fail."""
    done = STATE / f"done.{name}"
    if not done.exists():
        act()
        done.touch()
    print(f"ready: {name}", flush=True)


def make_schemas():
    glance, nova = STATE / "glance/glance-api.conf", STATE / "nova/nova.conf"
    neutron, placement = STATE / "neutron/neutron.conf", STATE / "placement/placement.conf"
    run("sync", "glance-manage", "--config-file", glance, "db_sync")
    run("sync", "placement-manage", "--config-file", placement, "db", "sync")
    cell0 = database("nova_cell0")["connection"]
    for words in (("api_db", "sync"), ("cell_v2", "map_cell0", "--database_connection", cell0),
                  ("db", "sync")):  # fmt: skip
        run("sync", "nova-manage", "--config-file", nova, *words)
    # 2: it is there.
    run("sync", "nova-manage", "--config-file", nova, "cell_v2", "create_cell", "--name", "cell1",
        codes=(0, 2))  # fmt: skip
    run("sync", "neutron-db-manage", "--config-file", neutron, "upgrade", "head")


def seed(*words):
    run("seed", "/usr/bin/python3", HERE / "seed.py", words[0], KEYSTONE, REGION, *words[1:])


def start_compute():
    """Nova's scheduler must be told of each host, once that has said that it is there.

    It takes none for its server that has not said so again since this start.
    """
    config = STATE / "nova/nova.conf"
    began = sql("select utc_timestamp()")
    for host in HOSTS:
        start(f"nova-compute-{host}", "/usr/bin/python3", "-c",
              "import nova.virt; nova.virt.__path__.append('/services');"
              "from nova.cmd.compute import main; main()",
              "--config-file", config, "--config-file", STATE / f"nova/{host}.conf",
              LAB_GUESTS=f"http://{IP}:{PORTS['guests']}")  # fmt: skip
    while sql("select count(*) from nova_api.host_mappings") != str(len(HOSTS)):
        run("sync", "nova-manage", "--config-file", config, "cell_v2", "discover_hosts")
        time.sleep(0.5)
    up = f"select count(*) from nova.services where topic = 'compute' and updated_at > '{began}'"  # noqa: S608
    wait("nova-compute", lambda: sql(up) == str(len(HOSTS)))


def start_nova():
    # Eventlet gives no reply of RabbitMQ to the thread that waits for it ("cannot switch to a
    # different thread"): a console took a minute, and was an error then.
    start_wsgi("nova", 4, OS_NOVA_CONFIG_DIR=str(STATE / "nova"),
               OS_NOVA_DISABLE_EVENTLET_PATCHING="yes")  # fmt: skip


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    os.umask(0o077)
    write_configurations()
    start_databases()
    start_keystone()
    once("schemas", make_schemas)
    once("catalog", lambda: seed("catalog", *(f"{kind}={url}" for kind, url in ENDPOINTS.items())))
    start_python("glance", "glance.cmd.api", STATE / "glance/glance-api.conf")
    start_wsgi("placement", 2, OS_PLACEMENT_CONFIG_DIR=str(STATE / "placement"))
    start_python("neutron", "neutron.cmd.eventlet.server", STATE / "neutron/neutron.conf")
    start_python("nova-conductor", "nova.cmd.conductor", STATE / "nova/nova.conf")
    start_python("nova-scheduler", "nova.cmd.scheduler", STATE / "nova/nova.conf")
    start_nova()
    for name in ("glance", "placement", "neutron", "nova"):
        wait(name, answers(name))
    start_compute()
    once("projects", lambda: seed("projects"))
    print("ready: all", flush=True)
    while True:  # Nova's API is started again when it was killed, as systemd does it
        started["nova"].wait()
        time.sleep(1)
        start_nova()


if __name__ == "__main__":
    main()
