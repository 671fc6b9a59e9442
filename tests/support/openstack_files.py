"""The configuration of a small OpenStack on loopback, as the files that its services read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

REGION: Final = "lab"
PASSWORD: Final = "lab"
"""of the administrator, as whom the services speak to each other, and of the message queue"""
APIS: Final[Mapping[str, tuple[str, str]]] = {
    "keystone": ("identity", "/v3"),
    "placement": ("placement", ""),
    "glance": ("image", ""),
    "neutron": ("network", ""),
    "nova": ("compute", "/v2.1"),
}
"""service -> its type, and the path of its endpoint"""
DATABASES: Final = ("keystone", "placement", "glance", "neutron", "nova_api", "nova_cell0", "nova")
COMPUTES: Final = ("compute-1", "compute-2")
CONSOLES: Final = "novncproxy.conf"
"""the file of the console proxy; the second compute has no displays"""

_Sections = Mapping[str, Mapping[str, object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where everything is. `databases`: name -> address for SQLAlchemy."""

    folder: Path
    venv: Path
    ports: Mapping[str, int]
    databases: Mapping[str, str]

    @property
    def auth_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['keystone']}/v3"

    @property
    def queue(self) -> str:
        return f"rabbit://lab:{PASSWORD}@127.0.0.1:{self.ports['rabbit']}/"

    @property
    def environment(self) -> dict[str, str]:
        """What tells each service where its files are."""
        folder = str(self.folder)
        return {
            "OS_KEYSTONE_CONFIG_DIR": folder,
            "OS_PLACEMENT_CONFIG_DIR": folder,
            "OS_GLANCE_CONFIG_DIR": folder,
            "OS_NEUTRON_CONFIG_DIR": folder,
            "OS_NEUTRON_CONFIG_FILES": "neutron.conf",
            "OS_NOVA_CONFIG_DIR": folder,
            "OS_NOVA_CONFIG_FILES": "api-paste.ini;nova.conf",
        }

    def write(self) -> None:
        """All files."""
        for name in ("keys", "credentials", "images", "staging", "tasks", "locks", *COMPUTES):
            (self.folder / name).mkdir(mode=0o700)
        self._put("keystone.conf", self._keystone())
        self._put("placement.conf", self._placement())
        self._put("glance-api.conf", self._glance())
        self._put("neutron.conf", self._neutron())
        paste = "api-paste.ini"
        (self.folder / paste).symlink_to(self.venv / "etc/nova" / paste)
        nova = self._nova()
        self._put("nova.conf", nova)
        for host in COMPUTES:
            own = {"host": host, "state_path": self.folder / host}
            vnc = {**nova["vnc"], "enabled": host == COMPUTES[0]}
            sections = {**nova, "DEFAULT": {**nova["DEFAULT"], **own}, "vnc": vnc}
            self._put(f"{host}.conf", sections)
        # there is no noVNC to serve beside the displays
        self._put(CONSOLES, {**nova, "DEFAULT": {**nova["DEFAULT"], "web": ""}})

    def _put(self, name: str, sections: _Sections) -> None:
        lines = []
        for section, options in sections.items():
            lines.append(f"[{section}]")
            lines += [f"{key} = {value}" for key, value in options.items()]
        (self.folder / name).write_text("\n".join(lines) + "\n", "utf-8")

    def _account(self) -> dict[str, object]:
        return {
            "auth_type": "password",
            "auth_url": self.auth_url,
            "username": "admin",
            "password": PASSWORD,
            "project_name": "admin",
            "user_domain_id": "default",
            "project_domain_id": "default",
            "region_name": REGION,
        }

    def _guard(self) -> dict[str, object]:
        return {**self._account(), "www_authenticate_uri": self.auth_url}

    def _keystone(self) -> _Sections:
        return {
            "database": {"connection": self.databases["keystone"]},
            "fernet_tokens": {"key_repository": self.folder / "keys"},
            "credential": {"key_repository": self.folder / "credentials"},
        }

    def _placement(self) -> _Sections:
        return {
            "api": {"auth_strategy": "keystone"},
            "placement_database": {"connection": self.databases["placement"]},
            "keystone_authtoken": self._guard(),
        }

    def _glance(self) -> _Sections:
        return {
            "DEFAULT": {"enabled_backends": "here:file"},
            "glance_store": {"default_backend": "here"},
            "here": {"filesystem_store_datadir": self.folder / "images"},
            "os_glance_staging_store": {"filesystem_store_datadir": self.folder / "staging"},
            "os_glance_tasks_store": {"filesystem_store_datadir": self.folder / "tasks"},
            "database": {"connection": self.databases["glance"]},
            "keystone_authtoken": self._guard(),
            "paste_deploy": {
                "flavor": "keystone",
                "config_file": self.venv / "etc/glance/glance-api-paste.ini",
            },
        }

    def _neutron(self) -> _Sections:
        return {
            "DEFAULT": {
                "core_plugin": "ml2",
                "service_plugins": "",
                "transport_url": self.queue,
                "notify_nova_on_port_status_changes": False,
                "notify_nova_on_port_data_changes": False,
                "api_paste_config": self.venv / "etc/neutron/api-paste.ini",
            },
            "ml2": {
                "type_drivers": "local",
                "tenant_network_types": "local",
                "mechanism_drivers": "",
            },
            "database": {"connection": self.databases["neutron"]},
            "keystone_authtoken": self._guard(),
            "oslo_concurrency": {"lock_path": self.folder / "locks"},
        }

    def _displays(self) -> dict[str, object]:
        port = self.ports["novncproxy"]
        return {
            "novncproxy_host": "127.0.0.1",
            "novncproxy_port": port,
            "novncproxy_base_url": f"http://127.0.0.1:{port}/vnc_lite.html",
        }

    def _nova(self) -> _Sections:
        return {
            "DEFAULT": {
                "transport_url": self.queue,
                "compute_driver": "fake.MediumFakeDriver",
                "host": "control",
                "my_ip": "127.0.0.1",
                "state_path": self.folder,
                "reserved_host_memory_mb": 0,
                "initial_ram_allocation_ratio": 8,
            },
            "api": {"auth_strategy": "keystone"},
            "api_database": {"connection": self.databases["nova_api"]},
            "database": {"connection": self.databases["nova"]},
            "keystone_authtoken": self._guard(),
            "placement": self._account(),
            "neutron": {**self._account(), "service_metadata_proxy": False},
            "glance": {"region_name": REGION},
            "cinder": self._account(),
            "vnc": self._displays(),
            "conductor": {"workers": 1},
            "scheduler": {"workers": 1},
            "oslo_concurrency": {"lock_path": self.folder / "locks"},
        }
