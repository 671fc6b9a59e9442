"""Whether a machine's memory is encrypted on its way to another host."""

from __future__ import annotations

from typing import Any

import libvirt
import pytest

from broker.domain.errors import EngineError, UnsupportedError
from broker.engines.libvirt.knobs import MovesTls, parse_profile
from broker.engines.libvirt.moves import move, wanted

NONE = "unable to execute QEMU command 'object-add': Unable to access credentials /etc/pki/qemu"
NOT_BELIEVED = "operation failed: migration out job: Certificate does not match the hostname"


class Domain:
    """A machine whose encrypted move is refused in those words, if any."""

    def __init__(self, refused: str = "", code: int = libvirt.VIR_ERR_INTERNAL_ERROR) -> None:
        self.refused = refused
        self.code = code
        self.moves: list[bool] = []

    def migrate3(self, _there: Any, _parameters: dict[str, str], flags: int) -> None:
        encrypted = bool(flags & libvirt.VIR_MIGRATE_TLS)
        self.moves.append(encrypted)
        if encrypted and self.refused:
            error = libvirt.libvirtError("refused")
            error.err = (self.code, 0, self.refused, 2, "", "", "", 0, 0)
            raise error

    def moved(self, tls: MovesTls) -> list[bool]:
        move(self, None, {}, tls)
        return self.moves


def refusal(domain: Domain, tls: MovesTls) -> list[bool]:
    with pytest.raises(libvirt.libvirtError):
        move(domain, None, {}, tls)
    return domain.moves


def test_memory_is_encrypted_where_both_hosts_can() -> None:
    assert Domain().moved(MovesTls.AUTO) == [True]
    assert Domain().moved(MovesTls.YES) == [True]
    assert Domain().moved(MovesTls.NO) == [False]


def test_hosts_without_certificates_move_in_the_clear_unless_that_was_ruled_out() -> None:
    assert Domain(NONE).moved(MovesTls.AUTO) == [True, False]
    assert refusal(Domain(NONE), MovesTls.YES) == [True]


def test_a_certificate_that_was_not_believed_never_leads_into_the_clear() -> None:
    """Whoever stands between the hosts must not bring that about."""
    for code in (libvirt.VIR_ERR_OPERATION_FAILED, libvirt.VIR_ERR_INTERNAL_ERROR):
        assert refusal(Domain(NOT_BELIEVED, code), MovesTls.AUTO) == [True]
    assert refusal(Domain(NONE, libvirt.VIR_ERR_OPERATION_FAILED), MovesTls.AUTO) == [True]


def test_the_stricter_of_two_hosts_says() -> None:
    auto, yes, no = (parse_profile(f"qemu?moves_tls={one}") for one in MovesTls)
    assert parse_profile("qemu").moves_tls is MovesTls.AUTO
    assert wanted(auto, auto) is MovesTls.AUTO
    assert wanted(auto, yes) is wanted(yes, auto) is MovesTls.YES
    assert wanted(auto, no) is MovesTls.NO
    with pytest.raises(UnsupportedError):
        wanted(yes, no)
    with pytest.raises(EngineError):
        parse_profile("qemu?moves_tls=perhaps")
