"""How a machine's memory comes from one host to another: from QEMU to QEMU, encrypted where both
hosts have certificates for it. Blocking; raises libvirt's error.

libvirt's native TLS (VIR_MIGRATE_TLS): the QEMU that a machine comes to proves with the host's
server certificate that it is at the address that the memory is sent to, and both ends that they
are of one authority (QEMU's folder, /etc/pki/qemu unless qemu.conf names another). The alternative,
libvirt's tunnel, would have each host's daemon sign in at the other's; here the broker alone signs
in at both.
"""

from __future__ import annotations

import logging
from typing import Any, Final

import libvirt

from broker.domain.errors import UnsupportedError
from broker.engines.libvirt.errors import telling
from broker.engines.libvirt.knobs import MovesTls, Place

_log = logging.getLogger("trivium.libvirt")

_FLAGS: Final = (
    libvirt.VIR_MIGRATE_LIVE
    | libvirt.VIR_MIGRATE_PERSIST_DEST
    | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
    | libvirt.VIR_MIGRATE_ABORT_ON_ERROR
    # both profiles say that the disks are the same files, which libvirt cannot see
    | libvirt.VIR_MIGRATE_UNSAFE
)
_NOT_BEGUN: Final = frozenset(
    {
        libvirt.VIR_ERR_INTERNAL_ERROR,
        libvirt.VIR_ERR_OPERATION_INVALID,
        libvirt.VIR_ERR_OPERATION_UNSUPPORTED,
    }
)
"""how a move ends that was refused while it was prepared; a handshake that failed is
VIR_ERR_OPERATION_FAILED"""
_LEFT: Final = frozenset(
    {
        libvirt.VIR_DOMAIN_PAUSED_MIGRATION,
        libvirt.VIR_DOMAIN_PAUSED_POSTCOPY,
        libvirt.VIR_DOMAIN_PAUSED_POSTCOPY_FAILED,
    }
)
"""why a machine stands still that may run at the other end of a move"""
_NO_CERTIFICATES: Final = (
    "Unable to access credentials",
    "TLS directory not configured",
    "TLS migration is not supported",
)
"""what QEMU (crypto/tlscredsx509.c) and libvirt 9.0 (qemu_migration_params.c) say then"""


def wanted(here: Place, there: Place) -> MovesTls:
    """What both profiles agree on. Raises UnsupportedError where one wants it encrypted and the
    other not."""
    both = {here.moves_tls, there.moves_tls}
    if both == {MovesTls.YES, MovesTls.NO}:
        raise UnsupportedError("one of the hosts moves desktops encrypted alone, the other never")
    return next((one for one in (MovesTls.YES, MovesTls.NO) if one in both), MovesTls.AUTO)


def move(domain: Any, there: Any, parameters: dict[str, str], tls: MovesTls) -> None:
    """`there`: a connection to the other host. With AUTO it goes in the clear only where one of the
    hosts has no certificates, never because they were not believed."""
    if tls is not MovesTls.NO:
        try:
            domain.migrate3(there, parameters, _FLAGS | libvirt.VIR_MIGRATE_TLS)
        except libvirt.libvirtError as error:
            if tls is MovesTls.YES or not _has_no_certificates(error):
                raise
            _log.warning("a machine's memory moves in the clear: %s", error)
        else:
            return
    domain.migrate3(there, parameters, _FLAGS)


def left(connection: Any, host: str, uuid: str) -> bool:
    """Whether the machine stands still by a move, which may have brought it to the other host."""
    with telling(host, "describe a machine"):
        state, why = connection.lookupByUUIDString(uuid).state()
    return state == libvirt.VIR_DOMAIN_PAUSED and why in _LEFT


def _has_no_certificates(error: libvirt.libvirtError) -> bool:
    """Of libvirt's and QEMU's own ends, over connections that the broker trusts: nobody on the way
    between the hosts can bring it about."""
    said = error.get_error_message() or ""
    return error.get_error_code() in _NOT_BEGUN and any(one in said for one in _NO_CERTIFICATES)
