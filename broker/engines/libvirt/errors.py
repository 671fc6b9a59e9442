"""libvirt's errors as the broker's own. What libvirt says goes to the log, not to people."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import libvirt

from broker.domain.errors import EngineError, UnsupportedError

_log = logging.getLogger("trivium.libvirt")

_CANNOT = frozenset(
    {
        libvirt.VIR_ERR_NO_SUPPORT,
        libvirt.VIR_ERR_CONFIG_UNSUPPORTED,
        libvirt.VIR_ERR_OPERATION_UNSUPPORTED,
        libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED,
    }
)
_ABSENT = frozenset(
    {
        libvirt.VIR_ERR_NO_DOMAIN,
        libvirt.VIR_ERR_NO_STORAGE_VOL,
        libvirt.VIR_ERR_NO_DOMAIN_METADATA,
    }
)


def is_absent(error: libvirt.libvirtError) -> bool:
    """Whether it says that the machine, volume or tag does not exist."""
    return error.get_error_code() in _ABSENT


@contextmanager
def telling(host: str, what: str) -> Iterator[None]:
    """Raises EngineError, or UnsupportedError, that says which host could not do what."""
    try:
        yield
    except libvirt.libvirtError as error:
        _log.warning("%s could not %s: %s", host, what, error)
        if error.get_error_code() in _CANNOT:
            raise UnsupportedError(f"{host} cannot {what}") from None
        raise EngineError(f"{host} could not {what}") from None
