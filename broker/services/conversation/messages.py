"""Carries out what an endpoint says, one message at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable

from broker import limits, wire
from broker.domain.errors import ProtocolError, TriviumError
from broker.domain.model import PhaseReport, Traffic
from broker.services.bundle import Services
from broker.services.conversation.connection import Connection
from broker.services.conversation.handshake import refuse
from broker.services.conversation.orders import grant_message

_log = logging.getLogger("trivium.link")


class Messages:
    """`send` queues a message to an endpoint; False when there is no room."""

    def __init__(self, services: Services, send: Callable[[Connection, bytes], bool]) -> None:
        self._services = services
        self._send = send

    async def take(self, connection: Connection, message: wire.FromAgent) -> bool:
        """Carry out one message; False ends the conversation. Raises TriviumError."""
        services, here = self._services, connection.endpoint_id
        match message:
            case wire.Heartbeat():
                await self._heartbeat(connection, message)
            case wire.Report():
                self._note_phase(connection, message)
            case wire.Redeem():
                await self._grant(connection, message)
            case wire.Live():
                await self._flush_phases(connection, message.session_id)
                await services.sessions.live(message.session_id, here, message.generation)
            case wire.Failed():
                await self._flush_phases(connection, message.session_id)
                why = f"{message.code}: {message.detail}"[: limits.NAME_CHARS_MAX]
                await services.sessions.could_not(message.session_id, here, message.generation, why)
            case wire.Ended():
                await self._flush_phases(connection, message.session_id)
                if message.traffic is not None:
                    await self._traffic(connection, message.traffic)
                await services.sessions.ended(message.session_id, here, message.generation)
            case wire.Fresh():
                await services.engine_work.endpoint_fresh(
                    here, message.desktop_id, message.generation
                )
            case wire.Consent():
                await services.sessions.answered(
                    message.session_id, here, message.wish_id, granted=message.granted
                )
            case wire.Bye():
                return False
            case wire.Hello() | wire.Proof():
                await refuse(connection.line, ProtocolError("the handshake is over"))
                return False
        return True

    async def _heartbeat(self, connection: Connection, message: wire.Heartbeat) -> None:
        services = self._services
        services.endpoints.heard(connection.endpoint_id)
        for traffic in message.sessions:
            await self._traffic(connection, traffic)
        if message.sessions:
            idle_s = {
                one.session_id: one.idle_s for one in message.sessions if one.idle_s is not None
            }
            await services.sessions.carried(
                connection.endpoint_id, {one.session_id for one in message.sessions}, idle_s
            )

    async def _traffic(self, connection: Connection, traffic: wire.SessionTraffic) -> None:
        """What the endpoint counted. Display bytes pass through the broker's own relay, which
        counts them, so the endpoint's figure for these is left out."""
        await self._services.sessions.traffic(
            traffic.session_id,
            connection.endpoint_id,
            Traffic(
                control=max(0, traffic.control),
                image=max(0, traffic.image),
            ),
        )

    def _note_phase(self, connection: Connection, report: wire.Report) -> None:
        """Phases are kept until the session is live and then written in one statement."""
        if connection.phases is None:
            connection.phases = {}
        reports = connection.phases.setdefault(report.session_id, [])
        if len(connection.phases) > limits.PHASES_MAX or len(reports) >= limits.PHASES_MAX:
            return
        reports.append(
            PhaseReport(
                name=report.phase[: limits.NAME_CHARS_MAX],
                took_ms=max(0.0, report.took_ms),
                bytes_down=max(0, report.bytes_down),
                bytes_up=max(0, report.bytes_up),
            )
        )

    async def _flush_phases(self, connection: Connection, session_id: str) -> None:
        if connection.phases is None:
            return
        reports = connection.phases.pop(session_id, [])
        if not connection.phases:
            connection.phases = None
        await self._services.sessions.phases(session_id, connection.endpoint_id, reports)

    async def flush(self, connection: Connection) -> None:
        """Write what is still kept; the endpoint is gone."""
        for session_id in tuple(connection.phases or ()):
            try:
                await self._flush_phases(connection, session_id)
            except TriviumError as error:
                _log.warning("phases of %s were lost: %s", session_id, error.detail)

    async def _grant(self, connection: Connection, message: wire.Redeem) -> None:
        services = self._services
        try:
            session = await services.sessions.redeem(
                message.session_id, message.ticket, connection.endpoint_id
            )
        except TriviumError as error:
            _log.info("endpoint %s: %s", connection.endpoint_id, error.code)
            services.tally.count("tickets_refused", "all")
            return
        grant = await services.sessions.grant(session)
        await services.sessions.renewed(session, grant.lease_until)
        self._send(connection, wire.encode(grant_message(session.id, grant)))
