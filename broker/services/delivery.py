"""Gets orders to endpoints: start this session, stop that one, make your desktop fresh.

The database says what is owed (sessions `delivering` or `ending`, desktops `resetting`); an order
is only the push. An endpoint may be connected to another process: that one hears the hint
"deliver", and every process also looks by itself, so a lost hint costs SWEEP_S and nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from broker import limits
from broker.architectures import rules_of
from broker.domain.model import Architecture, Desktop, DesktopState, Session, SessionState, Ticket
from broker.ports import EndpointLink, FreshOrder, PageQuery, StartOrder, StopOrder
from broker.services.kit import Kit
from broker.services.pools import Pools

SWEEP_S: Final = 5.0
"""between two looks for orders that nobody pushed"""
PUSHED_MAX: Final = 16
"""orders remembered as pushed for one endpoint; past it all are forgotten (a second push is
harmless, the agent carries on)"""
_OWED: Final = (SessionState.DELIVERING, SessionState.ENDING)


def secret_hash(secret: str) -> bytes:
    """How secrets are stored: SHA-256. They have 256 random bits, so no salt is needed."""
    return hashlib.sha256(secret.encode()).digest()


class Delivery:
    def __init__(self, kit: Kit, pools: Pools, link: EndpointLink) -> None:
        self._kit = kit
        self._pools = pools
        self._link = link
        self._pushed: dict[str, set[tuple[str, int, str]]] = {}

    def connected(self, endpoint_id: str) -> bool:
        return self._link.connected(endpoint_id)

    def forget(self, endpoint_id: str) -> None:
        """The endpoint disconnected: what was pushed may not have arrived."""
        self._pushed.pop(endpoint_id, None)

    async def run(self) -> None:
        """Hear "deliver" hints from other processes."""
        subscription = self._kit.events.subscribe("deliver")
        try:
            async for hint in subscription:
                if hint.topic == "deliver":
                    endpoint_id = str(hint.data.get("endpoint_id"))
                    if self._link.connected(endpoint_id):
                        await self.refresh([endpoint_id])
        finally:
            subscription.close()

    async def sweep(self) -> None:
        """Push whatever is owed to the endpoints connected here."""
        ids = list(self._link.connected_ids())
        for start in range(0, len(ids), limits.RECONCILE_BATCH_MAX):
            await self._push_sessions(ids[start : start + limits.RECONCILE_BATCH_MAX])
        resetting = await self._kit.store.desktops.by_state(
            [DesktopState.RESETTING], limits.RECONCILE_BATCH_MAX
        )
        for desktop in resetting:
            self._push_fresh(desktop)

    async def refresh(self, endpoint_ids: Sequence[str]) -> None:
        """Push what is owed to these endpoints, which are connected here."""
        await self._push_sessions(endpoint_ids)
        for endpoint_id in endpoint_ids:
            page = await self._kit.store.desktops.desktops(
                PageQuery(filters={"endpoint_id": endpoint_id, "state": DesktopState.RESETTING})
            )
            for desktop in page.items:
                self._push_fresh(desktop)

    async def owe(self, session: Session, desktop: Desktop | None = None) -> None:
        """This session needs its endpoint's attention now, wherever it is connected."""
        if session.endpoint_id is None:
            return
        if self._link.connected(session.endpoint_id):
            await self._push(session, desktop)
        else:
            self._kit.events.publish("deliver", endpoint_id=session.endpoint_id)

    async def order_again(self, session: Session) -> None:
        """Send the Start order once more, with a new ticket: the endpoint, which is connected
        here, carries on and redeems it for a new lease."""
        order = await self._start_order(session, None)
        if order is not None and session.endpoint_id is not None:
            self._link.send(session.endpoint_id, order)

    def owe_fresh(self, desktop: Desktop) -> None:
        if desktop.endpoint_id is None:
            return
        if self._link.connected(desktop.endpoint_id):
            self._push_fresh(desktop)
        else:
            self._kit.events.publish("deliver", endpoint_id=desktop.endpoint_id)

    def stop(self, endpoint_id: str, session_id: str, generation: int, reason: str) -> None:
        """Tell an endpoint that carries a session which is over already."""
        self._link.send(
            endpoint_id, StopOrder(session_id=session_id, generation=generation, reason=reason)
        )

    def _remembered(self, endpoint_id: str) -> set[tuple[str, int, str]]:
        pushed = self._pushed.setdefault(endpoint_id, set())
        if len(pushed) >= PUSHED_MAX:
            pushed.clear()
        return pushed

    async def _push_sessions(self, endpoint_ids: Sequence[str]) -> None:
        for session in await self._kit.store.sessions.at_endpoints(endpoint_ids, _OWED):
            await self._push(session, None)

    async def _push(self, session: Session, desktop: Desktop | None) -> None:
        endpoint_id = session.endpoint_id
        if endpoint_id is None or session.desktop_id is None:
            return
        key = (session.id, session.generation, f"{session.state} {session.assigned_at}")
        pushed = self._remembered(endpoint_id)
        if key in pushed:
            return
        pushed.add(key)
        if session.state is SessionState.ENDING:
            sent = self._link.send(
                endpoint_id,
                StopOrder(session_id=session.id, generation=session.generation, reason=session.why),
            )
        else:
            order = await self._start_order(session, desktop)
            sent = order is not None and self._link.send(endpoint_id, order)
        if not sent:
            pushed.discard(key)

    async def _start_order(self, session: Session, desktop: Desktop | None) -> StartOrder | None:
        kit = self._kit
        if desktop is None and session.desktop_id is not None:
            desktop = await kit.store.desktops.desktop(session.desktop_id)
        user = await kit.store.directory.user(session.user_id)
        if desktop is None or user is None:
            return None
        pool = await self._pools.find(session.pool_id)
        secret = kit.ids.secret()
        await kit.store.credentials.add_ticket(
            Ticket(
                id=kit.ids.new("tkt"),
                secret_hash=secret_hash(secret),
                session_id=session.id,
                user_id=session.user_id,
                expires_at=kit.clock.now() + limits.TICKET_S * 1000,
            )
        )
        return StartOrder(
            session=session,
            desktop=desktop,
            pool=pool,
            image=await self._pools.image(pool.image_id),
            username=user.username,
            ticket=secret,
        )

    def _push_fresh(self, desktop: Desktop) -> None:
        if desktop.endpoint_id is None or not self._link.connected(desktop.endpoint_id):
            return
        if not rules_of(Architecture(desktop.architecture)).runs_on_endpoint:
            return
        key = (desktop.id, desktop.generation, f"fresh {desktop.changed_at}")
        pushed = self._remembered(desktop.endpoint_id)
        if key in pushed:
            return
        order = FreshOrder(desktop_id=desktop.id, generation=desktop.generation)
        if self._link.send(desktop.endpoint_id, order):
            pushed.add(key)
