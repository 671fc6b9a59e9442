"""Endpoints: enrolment, the signed challenge, presence, and the pace of heartbeats."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from broker import limits
from broker.domain.errors import (
    BadEnrolmentError,
    BadProofError,
    BadRequestError,
    BusyError,
    IllegalTransitionError,
    NotFoundError,
    ProtocolError,
)
from broker.domain.lifecycle import EndpointEvent
from broker.domain.model import Endpoint, EndpointKind, EndpointState, SessionState
from broker.ports import OneUseSecret, PageQuery, Signatures
from broker.services.decisions import asked, decision
from broker.services.delivery import Delivery
from broker.services.kit import Kit
from broker.services.naming import checked_label, checked_name
from broker.services.origin import NOWHERE, Origin
from broker.services.sessions import Sessions
from broker.services.tally import Tally
from broker.services.tickets import secret_hash

HEARTBEATS_PER_S_MAX: Final = 200.0
"""heartbeats that one process takes in a second; with more endpoints the pace is stretched"""
PUBLIC_KEY_BYTES: Final = 32
SEEN_FLUSH_S: Final = 5.0
"""between two writes of who was heard"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    name: str
    kind: str
    location: str
    public_key: bytes
    agent_version: str


class Endpoints:
    def __init__(
        self,
        kit: Kit,
        signatures: Signatures,
        sessions: Sessions,
        delivery: Delivery,
        tally: Tally,
    ) -> None:
        self._kit = kit
        self._signatures = signatures
        self._sessions = sessions
        self._delivery = delivery
        self._tally = tally
        self._seen: dict[str, None] = {}
        self._admitting = 0
        self.connected_here = 0

    # ------------------------------------------------------------------ enrolment

    async def make_tokens(self, count: int, life_s: int = limits.ENROLMENT_S) -> list[str]:
        """`count` one-use enrolment tokens."""
        secrets = [self._kit.ids.secret() for _ in range(count)]
        expires_at = self._kit.clock.now() + life_s * 1000
        await self._kit.store.credentials.add_secrets(
            [
                OneUseSecret(
                    secret_hash=secret_hash(secret),
                    kind="enrolment",
                    payload={},
                    expires_at=expires_at,
                )
                for secret in secrets
            ]
        )
        return secrets

    async def enrol(self, token: str, enrolment: Enrolment, origin: Origin = NOWHERE) -> Endpoint:
        """Give an endpoint its identity, once per token; written into the audit trail.

        Raises:
            BadRequestError: the key, kind or name is of a wrong form (the token stays good).
            BadEnrolmentError: the token is not valid. ConflictError: retired, or another kind.
        """
        name = checked_name(enrolment.name)
        location = checked_label(enrolment.location, "location")
        agent_version = checked_label(enrolment.agent_version, "agent_version")
        if len(enrolment.public_key) != PUBLIC_KEY_BYTES:
            raise BadRequestError(f"the public key is not {PUBLIC_KEY_BYTES} bytes long")
        try:
            kind = EndpointKind(enrolment.kind)
        except ValueError as error:
            raise BadRequestError("kind is neither thin nor fat") from error
        now = self._kit.clock.now()
        used = await self._kit.store.credentials.use_secret("enrolment", secret_hash(token), now)
        if used is None:
            raise BadEnrolmentError
        known = await self._kit.store.endpoints.endpoint_by_name(name)
        new_id = known.id if known is not None else self._kit.ids.new("ept")
        why = f"{name} showed a one-use token and got its identity"
        entry = decision(
            self._kit,
            "endpoint.enrol",
            why,
            about={"endpoint_id": new_id},
            actor=new_id,
            details={"kind": kind.value, "agent_version": agent_version},
            origin=origin,
        )
        async with asked(self._kit, entry):
            endpoint = await self._kit.store.endpoints.enrol(
                name=name,
                kind=kind,
                location=location,
                public_key=enrolment.public_key,
                agent_version=agent_version,
                new_id=new_id,
                now=now,
            )
        self._kit.events.publish("endpoint", id=endpoint.id)
        return endpoint

    # ------------------------------------------------------------------ handshake

    def admit(self) -> None:
        """Take a place in the handshake, or raise BusyError with when to come back.

        A storm of reconnects is paced here: with everybody at once p99 was 14 times that of 500
        in flight (measured; docs/decisions.md).
        """
        if self._admitting >= limits.ADMISSIONS_AT_ONCE_MAX:
            self._tally.count("agents_paced", "all")
            # about as long as those before it take, spread by the agent's own jitter
            raise BusyError(retry_after_s=self._kit.chance.uniform(1.0, 5.0))
        self._admitting += 1

    def admitted(self) -> None:
        self._admitting -= 1

    def challenge(self) -> str:
        return self._kit.ids.secret()

    @property
    def installation_id(self) -> str:
        return self._kit.installation_id

    async def prove(
        self, endpoint_id: str, payload: bytes, signature: bytes, agent_version: str
    ) -> Endpoint:
        """The endpoint, now online, if the signature over `payload` is by its key.

        Raises:
            BadProofError: unknown, retired or not its key.
        """
        endpoint = await self._kit.store.endpoints.endpoint(endpoint_id)
        if endpoint is None or endpoint.public_key is None:
            raise BadProofError
        if not self._signatures.verify(endpoint.public_key, signature, payload):
            raise BadProofError
        if endpoint.state is EndpointState.RETIRED:
            raise BadProofError(f"{endpoint.name} is retired")
        now = self._kit.clock.now()
        online = await self._kit.store.endpoints.presence(
            endpoint_id,
            EndpointEvent.CONNECTED,
            now,
            agent_version=agent_version[: limits.NAME_CHARS_MAX],
            fresh_deadline_at=now + limits.RESET_S * 1000,
        )
        self._kit.events.publish("endpoint", id=endpoint_id, state=online.state)
        return online

    def pace_s(self) -> float:
        """Seconds between two heartbeats of one endpoint, by how many are connected here."""
        return max(limits.HEARTBEAT_S, self.connected_here / HEARTBEATS_PER_S_MAX)

    # ------------------------------------------------------------------ presence

    def heard(self, endpoint_id: str) -> None:
        """A sign of life; written down together with others'."""
        self._seen[endpoint_id] = None

    async def flush(self) -> None:
        """Write down who was heard since the last time, and what people did at their sessions."""
        seen, self._seen = list(self._seen), {}
        if seen:
            for endpoint_id in await self._kit.store.endpoints.seen(seen, self._kit.clock.now()):
                if self._delivery.connected(endpoint_id):
                    await self._not_gone(endpoint_id)
        await self._sessions.activity.flush()

    async def _not_gone(self, endpoint_id: str) -> None:
        """It is connected here and counts as offline: another process, where it was connected
        before, saw that link end later than this one began."""
        now = self._kit.clock.now()
        with contextlib.suppress(IllegalTransitionError, NotFoundError):
            await self._kit.store.endpoints.presence(
                endpoint_id,
                EndpointEvent.CONNECTED,
                now,
                fresh_deadline_at=now + limits.RESET_S * 1000,
            )
        self._kit.events.publish("endpoint", id=endpoint_id, state="online")
        self._delivery.forget(endpoint_id)
        await self._sessions.endpoint_back(endpoint_id)
        await self._delivery.refresh([endpoint_id])

    async def gone(self, endpoint_id: str) -> None:
        """The endpoint's link closed, or it was silent too long.

        Its sessions first: an endpoint that counts as offline is looked for no more, so a broker
        that dies in between must leave it online and silent.
        """
        self._delivery.forget(endpoint_id)
        for session in await self._sessions.at_endpoint(endpoint_id):
            if session.state in {SessionState.ACTIVE, SessionState.DELIVERING}:
                # one that moved meanwhile must not keep the others from being noticed
                with contextlib.suppress(IllegalTransitionError):
                    await self._sessions.lost(session, "its endpoint went away")
        try:
            await self._kit.store.endpoints.presence(
                endpoint_id, EndpointEvent.LOST, self._kit.clock.now()
            )
        except (IllegalTransitionError, NotFoundError):
            return  # retired, or another process saw it go first
        self._kit.events.publish("endpoint", id=endpoint_id, state="offline")

    async def retire(self, endpoint_id: str) -> Endpoint:
        """Take an endpoint out for good: what is at it ends or goes on elsewhere, and its link is
        closed. Raises NotFoundError, IllegalTransitionError."""
        endpoint = await self._kit.store.endpoints.presence(
            endpoint_id, EndpointEvent.RETIRED, self._kit.clock.now()
        )
        self._kit.events.publish("endpoint", id=endpoint_id, state=endpoint.state)
        await self._vacate([endpoint])
        self._delivery.drop(endpoint_id)
        return endpoint

    async def sweep_retired(self) -> None:
        """Retired endpoints carry nothing: finish what a broker began that died meanwhile, and
        close links whose hint was lost."""
        query, after = PageQuery(limit=limits.PAGE_LIMIT_MAX, filters={"state": "retired"}), None
        while True:
            page = await self._kit.store.endpoints.endpoints(replace(query, after=after))
            await self._vacate(page.items)
            for endpoint in page.items:
                if self._delivery.connected(endpoint.id):
                    self._delivery.drop(endpoint.id)
            after = page.next_after
            if after is None:
                return

    async def _vacate(self, retired: Sequence[Endpoint]) -> None:
        names = {endpoint.id: endpoint.name for endpoint in retired}
        for session in await self._sessions.stranded(list(names)):
            name = names.get(session.endpoint_id or "", "the endpoint")
            await self._sessions.vacate(session, f"{name} was taken out of service")


def check_protocol(found: int, spoken: int) -> None:
    """Raises ProtocolError when an agent speaks another version."""
    if found != spoken:
        raise ProtocolError(f"the agent speaks version {found}, this broker version {spoken}")
