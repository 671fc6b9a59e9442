"""What the SSH gateway is made of: its host key and its throttle."""

from __future__ import annotations

import stat
from pathlib import Path

import asyncssh
import pytest

from broker.domain.errors import ConfigError
from broker.domain.policy.sources import source_of
from broker.gateway.sources import SourceThrottle
from broker.keyfile import own_key
from tests.support.clock import ManualClock


def test_the_throttle_forgets_by_time_and_stays_bounded() -> None:
    clock = ManualClock()
    throttle = SourceThrottle(
        clock, total_max=100, open_max=50, new_max=2, window_s=1, sources_max=3
    )
    assert [throttle.enter("a") for _ in range(3)] == [True, True, False]
    clock._now_s += 0.5
    assert not throttle.enter("a")
    clock._now_s += 1.1
    assert throttle.enter("a")
    for name in "bcdef":
        assert throttle.enter(name)
        throttle.leave(name)
    assert len(throttle._recent) == 3
    assert set(throttle._open) == {"a"}


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_a_source_is_an_address_or_the_network_of_one_customer(address: str, source: str) -> None:
    assert source_of(address) == source


def test_the_host_key_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "data" / "ssh_host_key"
    made = own_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert made.get_algorithm() == "ssh-ed25519"
    assert own_key(path).get_fingerprint() == made.get_fingerprint()
    assert [one.name for one in path.parent.iterdir()] == ["ssh_host_key"]


def test_a_host_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ssh_host_key"
    own_key(path)
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="0600"):
        own_key(path)


@pytest.mark.parametrize("content", [b"", b"not a key", b"-----BEGIN OPENSSH PRIVATE KEY-----\n"])
def test_a_host_key_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ssh_host_key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigError):
        own_key(path)


def test_a_host_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ssh_host_key"
    path.write_bytes(asyncssh.generate_private_key("ecdsa-sha2-nistp256").export_private_key())
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="Ed25519"):
        own_key(path)
