"""Settings: default < environment < flag. Frozen once read; each value remembers its origin."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from broker.domain.errors import ConfigError

_PORT_MAX = 65_535
IMAGES_FOLDER = "images"
"""in the data folder: uploaded golden images, NAME-vVERSION.qcow2"""


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting as documentation and `check-config` show it."""

    name: str
    env: str
    default: str
    says: str
    secret: bool = False


SETTINGS: tuple[Setting, ...] = (
    Setting(
        name="listen",
        env="TRIVIUM_LISTEN",
        default="127.0.0.1:8080",
        says="address and port for HTTP",
    ),
    Setting(
        name="data",
        env="TRIVIUM_DATA",
        default="var",
        says="directory for the database, keys and reports",
    ),
    Setting(
        name="database_url",
        env="TRIVIUM_DATABASE_URL",
        default="",
        says="sqlite:///path or postgresql://…; empty: trivium.db in the data directory",
        secret=True,
    ),
    Setting(
        name="public_url",
        env="TRIVIUM_PUBLIC_URL",
        default="",
        says="the console's address as browsers see it; empty: http://listen",
    ),
    Setting(
        name="guest_url",
        env="TRIVIUM_GUEST_URL",
        default="",
        says="the broker's address as desktops' agents reach it by the network; empty: public_url",
    ),
    Setting(
        name="origins",
        env="TRIVIUM_ORIGINS",
        default="",
        says="further origins that may open browser sockets, separated by spaces",
    ),
    Setting(
        name="trusted_proxies",
        env="TRIVIUM_TRUSTED_PROXIES",
        default="",
        says="addresses or networks of the proxies in front, separated by spaces; what they say in "
        "X-Forwarded-For is believed",
    ),
    Setting(
        name="nats_url",
        env="TRIVIUM_NATS_URL",
        default="",
        says="NATS server for hints between broker processes; empty: within the process",
        secret=True,
    ),
    Setting(
        name="ssh_listen",
        env="TRIVIUM_SSH_LISTEN",
        default="",
        says="address and port of the support gateway; empty: off",
    ),
    Setting(
        name="vnc_listen",
        env="TRIVIUM_VNC_LISTEN",
        default="",
        says="address and port for VNC viewers outside the browser; empty: off",
    ),
    Setting(
        name="rdp_listen",
        env="TRIVIUM_RDP_LISTEN",
        default="",
        says="address and port for RDP viewers; empty: off",
    ),
    Setting(
        name="spice_listen",
        env="TRIVIUM_SPICE_LISTEN",
        default="",
        says="address and port of the proxy for SPICE viewers; empty: off",
    ),
    Setting(
        name="viewer_host",
        env="TRIVIUM_VIEWER_HOST",
        default="",
        says="name or address of this broker in connection files; empty: that of public_url",
    ),
    Setting(
        name="viewer_cert",
        env="TRIVIUM_VIEWER_CERT",
        default="",
        says="file with the certificate and its chain (PEM) for viewers; empty: no encryption",
    ),
    Setting(
        name="viewer_key",
        env="TRIVIUM_VIEWER_KEY",
        default="",
        says="file with the certificate's key (PEM)",
    ),
    Setting(
        name="speed",
        env="TRIVIUM_SPEED",
        default="1",
        says="time compression of everything simulated, 1 to 1000",
    ),
    Setting(
        name="bytes_scale",
        env="TRIVIUM_BYTES_SCALE",
        default="1",
        says="simulated image sizes are divided by this, 1 to 100000",
    ),
    Setting(name="seed", env="TRIVIUM_SEED", default="1", says="seed of the simulated engine"),
    Setting(
        name="log_format",
        env="TRIVIUM_LOG",
        default="text",
        says="text for people, json for programs",
    ),
    Setting(
        name="drain_s",
        env="TRIVIUM_DRAIN_S",
        default="5",
        says="seconds that a stopping broker gives to requests under way, 0 to 600",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    listen: Address
    data: Path
    database_url: str
    public_url: str
    guest_url: str
    origins: tuple[str, ...]
    trusted_proxies: tuple[Network, ...]
    nats_url: str
    ssh_listen: Address | None
    vnc_listen: Address | None
    rdp_listen: Address | None
    spice_listen: Address | None
    viewer_host: str
    viewer_cert: Path | None
    viewer_key: Path | None
    speed: float
    bytes_scale: int
    seed: int
    log_format: str
    drain_s: float
    origin_of: Mapping[str, str] = field(default_factory=dict)
    """setting name -> default, environment or flag"""

    @property
    def reports(self) -> Path:
        return self.data / "reports"

    @property
    def images(self) -> Path:
        """Golden images that were uploaded to this broker."""
        return self.data / IMAGES_FOLDER

    @property
    def anchor_file(self) -> Path:
        """The newest seal of the audit trail, kept outside the database."""
        return self.data / "audit.anchor"

    @property
    def local_token_file(self) -> Path:
        return self.data / "local.token"

    @property
    def secure_cookies(self) -> bool:
        return self.public_url.startswith("https://")


def parse_address(text: str, name: str) -> Address:
    """`host:port`, `[v6]:port` or `:port`; port 0 lets the system choose."""
    host, colon, port_text = text.rpartition(":")
    if not colon or not port_text.isascii() or not port_text.isdigit():
        raise ConfigError(f"{name}: {text!r} is not of the form address:port")
    port = int(port_text)
    if port > _PORT_MAX:
        raise ConfigError(f"{name}: port {port} is above {_PORT_MAX}")
    return Address(host=host.strip("[]") or "0.0.0.0", port=port)  # noqa: S104 - asked for by ":port"


def _maybe_address(texts: Mapping[str, str], name: str) -> Address | None:
    return parse_address(texts[name], name) if texts[name] else None


def _host(text: str) -> str:
    """A host name or an address, as it is written into files that other programs read."""
    if not re.fullmatch(r"[A-Za-z0-9.:_-]{0,253}", text):
        raise ConfigError(f"viewer_host: {text!r} is not the name or the address of a host")
    return text


def _number(text: str, name: str, low: float, high: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise ConfigError(f"{name}: {text!r} is not a number from {low:g} to {high:g}")
    return value


def _url(text: str, name: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise ConfigError(f"{name}: {text!r} is not an http or https address")
    return text.rstrip("/")


def _network(text: str, name: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        raise ConfigError(
            f"{name}: {text!r} is neither an address nor a network such as 10.0.0.0/24"
        ) from None


def _certificate(texts: Mapping[str, str]) -> tuple[Path | None, Path | None]:
    cert, key = (
        Path(texts[name]).absolute() if texts[name] else None
        for name in ("viewer_cert", "viewer_key")
    )
    if (cert is None) is not (key is None):
        raise ConfigError("viewer_cert, viewer_key: one is nothing without the other")
    return cert, key


def hide_password(url: str) -> str:
    """The address with its password shown as ***."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    shown = parts.netloc.replace(f":{parts.password}@", ":***@")
    return urlunsplit(parts._replace(netloc=shown))


def gather(
    env: Mapping[str, str], flags: Mapping[str, str | None]
) -> tuple[dict[str, str], dict[str, str]]:
    """(name -> text, name -> origin) for every setting.

    Raises:
        ConfigError: an environment variable TRIVIUM_… is not a setting (a misspelt name must
            not be ignored in silence).
    """
    known = {setting.env for setting in SETTINGS} | {"TRIVIUM_URL", "TRIVIUM_TOKEN"}
    strange = sorted(name for name in env if name.startswith("TRIVIUM_") and name not in known)
    if strange:
        raise ConfigError(f"{strange[0]} is not a setting; known: {', '.join(sorted(known))}")
    texts: dict[str, str] = {}
    origins: dict[str, str] = {}
    for setting in SETTINGS:
        flag = flags.get(setting.name)
        if flag is not None:
            texts[setting.name], origins[setting.name] = flag, "flag"
        elif env.get(setting.env, "") != "":
            texts[setting.name], origins[setting.name] = env[setting.env], "environment"
        else:
            texts[setting.name], origins[setting.name] = setting.default, "default"
    return texts, origins


def load(env: Mapping[str, str], flags: Mapping[str, str | None] | None = None) -> Config:
    """Read and check every setting.

    Raises:
        ConfigError: naming the first setting that is not valid.
    """
    texts, origins = gather(env, flags or {})
    listen = parse_address(texts["listen"], "listen")
    data = Path(texts["data"]).absolute()
    database_url = texts["database_url"] or f"sqlite:///{data / 'trivium.db'}"
    if not database_url.startswith(("sqlite:", "postgresql:", "memory:")):
        raise ConfigError(
            f"database_url: {hide_password(database_url)!r} is neither sqlite nor postgresql"
        )
    reach = "127.0.0.1" if listen.host in {"0.0.0.0", "::"} else listen.host  # noqa: S104
    public = texts["public_url"] or f"http://{Address(reach, listen.port)}"
    if texts["log_format"] not in {"text", "json"}:
        raise ConfigError(f"log_format: {texts['log_format']!r} is neither text nor json")
    cert, key = _certificate(texts)
    return Config(
        listen=listen,
        data=data,
        database_url=database_url,
        public_url=_url(public, "public_url"),
        guest_url=_url(texts["guest_url"] or public, "guest_url"),
        origins=tuple(_url(one, "origins") for one in texts["origins"].split()),
        trusted_proxies=tuple(
            _network(one, "trusted_proxies") for one in texts["trusted_proxies"].split()
        ),
        nats_url=texts["nats_url"],
        ssh_listen=_maybe_address(texts, "ssh_listen"),
        vnc_listen=_maybe_address(texts, "vnc_listen"),
        rdp_listen=_maybe_address(texts, "rdp_listen"),
        spice_listen=_maybe_address(texts, "spice_listen"),
        viewer_host=_host(texts["viewer_host"]) or urlsplit(public).hostname or "",
        viewer_cert=cert,
        viewer_key=key,
        speed=_number(texts["speed"], "speed", 1, 1000),
        bytes_scale=int(_number(texts["bytes_scale"], "bytes_scale", 1, 100_000)),
        seed=int(_number(texts["seed"], "seed", 0, 2**53)),
        log_format=texts["log_format"],
        drain_s=_number(texts["drain_s"], "drain_s", 0, 600),
        origin_of=origins,
    )


def problems(env: Mapping[str, str], flags: Mapping[str, str | None] | None = None) -> list[str]:
    """Every problem, not only the first: each setting is tried with the others at default."""
    found: list[str] = []
    tries: list[Callable[[], object]] = [partial(gather, env, flags or {})]
    known = {setting.env: setting for setting in SETTINGS}
    given = {setting.name: (flags or {}).get(setting.name) for setting in SETTINGS}
    for variable, setting in known.items():
        text = given[setting.name] if given[setting.name] is not None else env.get(variable)
        if text:
            tries.append(partial(load, {}, {setting.name: text}))
    for one in tries:
        try:
            one()
        except ConfigError as error:
            found.append(error.detail)
    return found
