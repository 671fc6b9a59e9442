"""Certificates for hosts over TLS: files that the administrator puts into the data directory.

`pki/HOST/` (or `pki/` for every host) holds cacert.pem, clientcert.pem and clientkey.pem, as
libvirt names them. HOST is the host's name in its address.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509

from broker.domain.errors import EngineError

FOLDER: Final = "pki"
FILES: Final = ("cacert.pem", "clientcert.pem", "clientkey.pem")
_KEY: Final = "clientkey.pem"
_PEM_BYTES_MAX: Final = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Pki:
    """One host's certificates. folder: where they are. expires: when the first of them ends."""

    folder: Path
    expires: datetime


def pki_of(data: Path, host: str) -> Pki:
    """The certificates for that host. Blocking.

    Raises EngineError that says what is missing, or that others may read the key.
    """
    own = data / FOLDER / host
    folder = own if own.is_dir() else data / FOLDER
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        where = f"{FOLDER}/{host} of the data directory"
        raise EngineError(f"there is no {', '.join(missing)} in {where}")
    if (folder / _KEY).stat().st_mode & 0o077:
        raise EngineError(f"others may read {_KEY}: give it mode 0600")
    try:
        ends = [_end_of(folder / name) for name in FILES if name != _KEY]
        ssl_context(folder)
    except (OSError, ValueError, ssl.SSLError):
        raise EngineError("the certificates for the host cannot be read") from None
    return Pki(folder=folder.absolute(), expires=min(ends))


def ssl_context(folder: Path) -> ssl.SSLContext:
    """What checks the host's certificate, and shows the broker's. Raises OSError, SSLError."""
    context = ssl.create_default_context(cafile=str(folder / "cacert.pem"))
    context.load_cert_chain(folder / "clientcert.pem", folder / _KEY)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _end_of(path: Path) -> datetime:
    with path.open("rb") as file:
        found = x509.load_pem_x509_certificates(file.read(_PEM_BYTES_MAX))
    return min(one.not_valid_after_utc for one in found)
