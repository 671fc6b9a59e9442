"""Certificates for hosts: where they are looked for, and what is said of those that do not do."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.domain.errors import EngineError
from broker.engines.reach.tls import FILES, pki_of
from tests.support.certificates import Authority


def test_a_hosts_own_certificates_come_before_those_for_every_host(tmp_path: Path) -> None:
    authority = Authority()
    authority.vouch(tmp_path / "pki", "broker", server=False)
    everybodys = pki_of(tmp_path, "host-7")
    assert everybodys.folder == tmp_path / "pki"
    authority.vouch(tmp_path / "pki/host-7", "broker", server=False)
    assert pki_of(tmp_path, "host-7").folder == tmp_path / "pki/host-7"
    assert pki_of(tmp_path, "host-8").folder == tmp_path / "pki"
    assert everybodys.expires.tzinfo is not None


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_missing_is_named(tmp_path: Path, name: str) -> None:
    Authority().vouch(tmp_path / "pki", "broker", server=False)
    (tmp_path / "pki" / name).unlink()
    with pytest.raises(EngineError, match=name):
        pki_of(tmp_path, "host-7")


def test_a_key_that_others_may_read_is_not_used(tmp_path: Path) -> None:
    Authority().vouch(tmp_path / "pki", "broker", server=False)
    (tmp_path / "pki/clientkey.pem").chmod(0o644)
    with pytest.raises(EngineError, match="0600"):
        pki_of(tmp_path, "host-7")


@pytest.mark.parametrize("name", FILES)
def test_a_file_with_something_else_in_it_is_told_without_its_content(
    tmp_path: Path, name: str
) -> None:
    Authority().vouch(tmp_path / "pki", "broker", server=False)
    (tmp_path / "pki" / name).write_text("s3cret")
    with pytest.raises(EngineError, match="cannot be read") as told:
        pki_of(tmp_path, "host-7")
    assert "s3cret" not in str(told.value)
