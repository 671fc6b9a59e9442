"""Who an endpoint is: its name, its own Ed25519 key, and the installation it belongs to."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agents import __version__
from broker import wire


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """`private_key`: 32 bytes, made on the endpoint, never sent. `endpoint_id` and
    `installation_id` are None until the endpoint is enrolled, and pinned from then on."""

    name: str
    kind: str
    location: str
    private_key: bytes = field(repr=False)
    endpoint_id: str | None = None
    installation_id: str | None = None

    def enrolment(self) -> wire.EnrolRequest:
        """The request that makes this key known; the token is put in where it is kept."""
        public = Ed25519PrivateKey.from_private_bytes(self.private_key).public_key()
        return wire.EnrolRequest(
            token="",
            name=self.name,
            kind=self.kind,
            public_key=public.public_bytes_raw().hex(),
            location=self.location,
            agent_version=__version__,
        )

    def enrolled(self, answer: wire.EnrolAnswer) -> Identity:
        return replace(self, endpoint_id=answer.endpoint_id, installation_id=answer.installation_id)

    def sign(self, nonce: str) -> str:
        """The proof for a challenge of the pinned installation: 64 bytes, hex. One that is not
        enrolled signs for nobody."""
        key = Ed25519PrivateKey.from_private_bytes(self.private_key)
        payload = wire.proof_payload(self.installation_id or "", self.endpoint_id or "", nonce)
        return key.sign(payload).hex()
