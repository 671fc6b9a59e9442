"""A real OpenStack on loopback for tests: all its services, and hypervisors that only pretend.

Keystone, Placement, Glance, Neutron and Nova from PyPI in an environment of their own
(tools/openstack.sh), RabbitMQ of the system, PostgreSQL as all tests have it; Nova's computes run
its fake driver. Everything is a child of this process, ended by its id, and lies in a folder of
its own, so a lab leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.support.openstack_files import (
    APIS,
    COMPUTES,
    CONSOLES,
    DATABASES,
    PASSWORD,
    REGION,
    Site,
)
from tests.support.postgres import PostgresServer, running_postgres
from tests.support.tree import ROOT

IMAGE_BYTES: Final = 65_536
START_S: Final = 120.0
COMMAND_S: Final = 180.0
END_S: Final = 10.0
_PORTS: Final = ("rabbit", "epmd", "rabbit_nodes", "novncproxy", "screens", *APIS)
_RABBIT: Final = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


def cache() -> Path:
    """Where tools/openstack.sh puts the environment."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "trivium" / "openstack"


class OpenStackLab:
    """`clouds`: a clouds.yaml that knows it as "lab", for an administrator."""

    def __init__(self, folder: Path, postgres: PostgresServer) -> None:
        self.folder = folder
        self._postgres = postgres
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self.site = Site(
            folder=folder / "etc",
            venv=cache() / "venv",
            ports=dict(zip(_PORTS, _ports(len(_PORTS)), strict=True)),
            databases={name: self._database(name) for name in DATABASES},
        )

    @property
    def clouds(self) -> Path:
        return self.folder / "clouds.yaml"

    def start(self) -> None:
        self.site.folder.mkdir()
        self.site.write()
        self._write_clouds()
        self._start_queue()
        self._make_tables()
        self._serve("keystone")
        self._register()
        for name in APIS:
            if name != "keystone":
                self._serve(name, wait=False)
        for name in APIS:
            self._await_port(name)
        for name in ("nova-conductor", "nova-scheduler"):
            self._nova(name, "nova.conf")
        for host in COMPUTES:
            self._nova("nova-compute", f"{host}.conf")
        self._show_screens()
        self._await_computes()
        self._add_image("school-v1")

    def cloud(self) -> Any:
        """A connection of openstacksdk, as the administrator."""
        import openstack  # noqa: PLC0415 - not everywhere

        return openstack.connect(
            load_yaml_config=False, load_envvars=False, region_name=REGION,
            auth={
                "auth_url": self.site.auth_url, "username": "admin", "password": PASSWORD,
                "project_name": "admin", "user_domain_id": "default",
                "project_domain_id": "default",
            },
        )  # fmt: skip

    def clear(self) -> None:
        """Remove every server."""
        with contextlib.closing(self.cloud()) as cloud:
            servers = list(cloud.compute.servers(all_projects=True))
            for server in servers:
                cloud.compute.delete_server(server, force=True)
            for server in servers:
                cloud.compute.wait_for_delete(server, interval=0.2, wait=60)

    def stop(self) -> None:
        """End every child, the last started first."""
        children = tuple(reversed(self._children.values()))
        for child in children:
            child.terminate()
        until = time.monotonic() + END_S
        for child in children:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(max(0.0, until - time.monotonic()))
            # each has a process group of its own, with the workers that it forked
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait(END_S)

    # ---------------------------------------------------------------------- parts

    def _database(self, name: str) -> str:
        self._postgres.run(f"CREATE DATABASE os_{name} TEMPLATE template0")
        return "postgresql+psycopg2" + self._postgres.url(f"os_{name}").removeprefix("postgresql")

    def _write_clouds(self) -> None:
        self.clouds.touch(mode=0o600)
        self.clouds.write_text(
            f"""clouds:
  lab:
    region_name: {REGION}
    auth:
      auth_url: {self.site.auth_url}
      username: admin
      password: {PASSWORD}
      project_name: admin
      user_domain_id: default
      project_domain_id: default
""",
            "utf-8",
        )

    def _bin(self, name: str) -> str:
        return str(self.site.venv / "bin" / name)

    def _environment(self, **more: str) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": str(self.folder),
            **self.site.environment, **more,
        }  # fmt: skip

    def _run(self, *words: str) -> None:
        """A command of OpenStack, to its end."""
        ran = subprocess.run(
            [self._bin(words[0]), *words[1:]], env=self._environment(), cwd=self.folder,
            capture_output=True, text=True, timeout=COMMAND_S, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, f"{words[:3]}: {ran.stdout[-2000:]}{ran.stderr[-4000:]}"

    def _begin(self, name: str, words: list[str], **environment: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self._children[name] = subprocess.Popen(
                words, env=self._environment(**environment), cwd=self.folder,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def _start_queue(self) -> None:
        """RabbitMQ, and the port mapper that Erlang would leave behind."""
        ports, folder = self.site.ports, self.folder / "rabbit"
        folder.mkdir()
        own = {
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(ports["epmd"]),
            "RABBITMQ_NODENAME": "lab@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(ports["rabbit"]),
            "RABBITMQ_DIST_PORT": str(ports["rabbit_nodes"]),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbit.conf"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }
        (folder / "plugins").write_text("[].\n", "utf-8")
        (folder / "rabbit.conf").write_text(
            f"default_user = lab\ndefault_pass = {PASSWORD}\n", "utf-8"
        )
        self._begin("epmd", ["epmd"], **own)
        self._begin("rabbit", [str(_RABBIT)], **own)
        self._await_port("rabbit")

    def _make_tables(self) -> None:
        etc = self.site.folder
        keystone = ("keystone-manage", "--config-file", str(etc / "keystone.conf"))
        nova = ("nova-manage", "--config-file", str(etc / "nova.conf"))
        self._run(*keystone, "db_sync")
        for what in ("fernet_setup", "credential_setup"):
            user = ("--keystone-user", "root", "--keystone-group", "root")
            self._run(*keystone, what, *(user if os.geteuid() == 0 else ()))
        url = self.site.auth_url
        self._run(
            *keystone, "bootstrap", "--bootstrap-password", PASSWORD,
            "--bootstrap-region-id", REGION, "--bootstrap-public-url", url,
            "--bootstrap-internal-url", url, "--bootstrap-admin-url", url,
        )  # fmt: skip
        self._run("placement-manage", "--config-file", str(etc / "placement.conf"), "db", "sync")
        self._run("glance-manage", "--config-file", str(etc / "glance-api.conf"), "db_sync")
        self._run("python", str(ROOT / "tools/openstack/serve.py"), "neutron-tables")
        self._run(*nova, "api_db", "sync")
        self._run(
            *nova, "cell_v2", "map_cell0", "--database_connection",
            self.site.databases["nova_cell0"],
        )  # fmt: skip
        self._run(*nova, "cell_v2", "create_cell", "--name", "cell1")
        self._run(*nova, "db", "sync")

    def _serve(self, name: str, *, wait: bool = True) -> None:
        serve = str(ROOT / "tools" / "openstack" / "serve.py")
        self._begin(name, [self._bin("python"), serve, name, str(self.site.ports[name])])
        if wait:
            self._await_port(name)

    def _nova(self, name: str, file: str) -> None:
        words = [self._bin(name), "--config-file", str(self.site.folder / file)]
        self._begin(f"{name}-{file.removesuffix('.conf')}", words)

    def _show_screens(self) -> None:
        """Nova's console proxy, and the VNC server that it finds behind each machine."""
        port = self.site.ports["screens"]
        words = [sys.executable, "-m", "tests.support.openstack_screens", str(port)]
        self._begin("screens", words, PYTHONPATH=str(ROOT))
        serve, file = ROOT / "tools/openstack/serve.py", self.site.folder / CONSOLES
        words = [self._bin("python"), str(serve), "novncproxy", str(file), str(port)]
        self._begin("novncproxy", words)
        for name in ("screens", "novncproxy"):
            self._await_port(name)

    def _register(self) -> None:
        """What each service is, and where; services believe only who has the role of one."""
        with contextlib.closing(self.cloud()) as cloud:
            user = cloud.identity.find_user("admin", ignore_missing=False)
            cloud.identity.assign_project_role_to_user(
                cloud.current_project_id, user, cloud.identity.find_role("service")
            )
            for name, (kind, path) in APIS.items():
                if name == "keystone":
                    continue
                service = cloud.identity.create_service(name=name, type=kind)
                for interface in ("public", "internal", "admin"):
                    cloud.identity.create_endpoint(
                        service_id=service.id, interface=interface, region_id=REGION,
                        url=f"http://127.0.0.1:{self.site.ports[name]}{path}",
                    )  # fmt: skip

    def _await_port(self, name: str) -> None:
        until = time.monotonic() + START_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.site.ports[name]), 1).close()
            except OSError:
                self._check()
                assert time.monotonic() < until, f"{name} does not answer: {self.folder}"
                time.sleep(0.2)
            else:
                return

    def _check(self) -> None:
        for name, child in self._children.items():
            if child.poll() is not None:
                said = (self.folder / f"{name}.log").read_text("utf-8", "replace")
                raise AssertionError(f"{name} has ended: {said[-3000:]}")

    def _await_computes(self) -> None:
        """Until both have said that they are there, and what they have is known."""
        until = time.monotonic() + START_S
        nova = ("nova-manage", "--config-file", str(self.site.folder / "nova.conf"))
        with contextlib.closing(self.cloud()) as cloud:
            while True:
                self._check()
                services = list(cloud.compute.services(binary="nova-compute"))
                if {one.host for one in services if one.state == "up"} >= set(COMPUTES):
                    break
                assert time.monotonic() < until, f"no computes: {self.folder}"
                time.sleep(0.5)
            self._run(*nova, "cell_v2", "discover_hosts")
            while len(list(cloud.placement.resource_providers())) < len(COMPUTES):
                assert time.monotonic() < until, f"no resources: {self.folder}"
                time.sleep(0.5)

    def _add_image(self, name: str) -> None:
        with contextlib.closing(self.cloud()) as cloud:
            image = cloud.image.create_image(
                name=name, container_format="bare", disk_format="raw", allow_duplicates=True,
                data=bytes(IMAGE_BYTES), validate_checksum=False, wait=True, timeout=60,
                visibility="public",
            )  # fmt: skip
            assert cloud.image.get_image(image.id).status == "active"


def _ports(count: int) -> list[int]:
    """Free ones on loopback, of those that no system gives to clients meanwhile."""
    found: list[int] = []
    for port in range(20_000 + os.getpid() * 16 % 10_000, 32_000):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("no free ports")


@contextmanager
def running_lab() -> Iterator[OpenStackLab]:
    """Start one, and leave nothing of it (a minute)."""
    folder = Path(tempfile.mkdtemp(prefix="trivium-openstack-"))
    with running_postgres() as postgres:
        lab = OpenStackLab(folder, postgres)
        try:
            lab.start()
            yield lab
        finally:
            lab.stop()
            shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Run one until a line comes in, and say where its clouds.yaml is: for trying out."""
    with running_lab() as lab:
        print(lab.clouds, flush=True)  # noqa: T201 - what it is started for
        sys.stdin.readline()


if __name__ == "__main__":
    main()
