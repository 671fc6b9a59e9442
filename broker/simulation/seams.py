"""What stands in for the machine: clocks, ids, chance, keys and passwords, all from the seed."""

from __future__ import annotations

import asyncio
from hashlib import blake2b
from random import Random
from typing import Final

from agents.core.identity import Identity
from broker import wire
from broker.domain.model import Instant
from broker.simulation.loop import SimLoop

EPOCH_MS: Final = 1_790_000_000_000
"""ms since the Unix epoch at which virtual time begins"""


class SimClock:
    """One machine's clock: monotonic time is the loop's, wall time is `skew_ms` beside it."""

    def __init__(self, loop: SimLoop, skew_ms: int = 0) -> None:
        self._loop = loop
        self.skew_ms = skew_ms

    def now(self) -> Instant:
        return EPOCH_MS + self.skew_ms + int(self._loop.time() * 1000)

    def monotonic(self) -> float:
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class SimIds:
    """Ids and secrets by number, in the order in which they are made."""

    def __init__(self) -> None:
        self._made = 1000  # the roster's ids are below

    def new(self, prefix: str) -> str:
        self._made += 1
        return f"{prefix}_{self._made:08d}"

    def secret(self) -> str:
        self._made += 1
        return f"secret-{self._made:08d}".ljust(43, "-")


class SimChance:
    def __init__(self, chance: Random) -> None:
        self._chance = chance

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * self._chance.random()


def public_key(private_key: bytes) -> bytes:
    """The other half of a simulated key, 32 bytes."""
    return blake2b(private_key, digest_size=32, person=b"sim public").digest()


def _signature(public: bytes, payload: bytes) -> bytes:
    return blake2b(payload, key=public, digest_size=64).digest()


class SimIdentity(Identity):
    """An identity whose signatures cost a hash. Ed25519 itself is proven elsewhere; here it
    would be most of the time that a reconnect takes."""

    def enrolment(self) -> wire.EnrolRequest:
        return wire.EnrolRequest(
            token="",
            name=self.name,
            kind=self.kind,
            public_key=public_key(self.private_key).hex(),
            location=self.location,
        )

    def sign(self, nonce: str) -> str:
        payload = wire.proof_payload(self.installation_id or "", self.endpoint_id or "", nonce)
        return _signature(public_key(self.private_key), payload).hex()


class SimSignatures:
    """The Signatures port for SimIdentity."""

    def verify(self, public_key: bytes, signature: bytes, payload: bytes) -> bool:
        return signature == _signature(public_key, payload)


class SimPasswords:
    """The PasswordHasher port without the work."""

    async def hash(self, password: str) -> str:
        return f"plain:{password}"

    async def verify(self, password: str, encoded: str | None) -> bool:
        return encoded == f"plain:{password}"

    def needs_rehash(self, encoded: str) -> bool:
        del encoded
        return False
