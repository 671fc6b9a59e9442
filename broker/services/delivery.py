"""Gets orders to endpoints: start this session, stop that one, make your desktop fresh, and what
people are told or asked.

The database says what is owed (sessions `delivering` or `ending`, desktops `resetting`, a
session's newest message and its wish); an order is only the push. An endpoint may be connected to
another process: that one hears the hint "deliver", and every process also looks by itself, so a
lost hint costs SWEEP_S and nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from broker import limits
from broker.architectures import rules_of
from broker.domain.errors import TriviumError
from broker.domain.model import Architecture, Desktop, DesktopState, Session, SessionState, Ticket
from broker.ports import (
    ConsentOrder,
    EndpointLink,
    FreshOrder,
    NoticeOrder,
    Order,
    PageQuery,
    StartOrder,
    StopOrder,
)
from broker.services.kit import Kit
from broker.services.parking import Parking
from broker.services.pools import Pools
from broker.services.tickets import secret_hash, ticket_for

_log = logging.getLogger("trivium.delivery")

SWEEP_S: Final = 5.0
"""between two looks for orders that nobody pushed"""
PUSHED_MAX: Final = 16
"""orders remembered as pushed for one endpoint; past it all are forgotten (a second push is
harmless, the agent carries on)"""
_OWED: Final = (SessionState.DELIVERING, SessionState.ENDING)
_PEOPLE: Final = (SessionState.DELIVERING, SessionState.ACTIVE)
"""states in which somebody is there to be told or asked"""


class Delivery:
    def __init__(self, kit: Kit, pools: Pools, link: EndpointLink, parking: Parking) -> None:
        self._kit = kit
        self._pools = pools
        self._link = link
        self._parking = parking
        self._pushed: dict[str, set[tuple[str, int, str]]] = {}
        self._resuming: dict[str, str] = {}
        """desktop -> the endpoint that gets its order once the desktop runs"""

    def connected(self, endpoint_id: str) -> bool:
        return self._link.connected(endpoint_id)

    def forget(self, endpoint_id: str) -> None:
        """The endpoint disconnected: what was pushed may not have arrived."""
        self._pushed.pop(endpoint_id, None)

    def drop(self, endpoint_id: str) -> None:
        """Close the link of an endpoint that is retired, wherever it is connected."""
        if self._link.connected(endpoint_id):
            self._link.drop(endpoint_id)
        else:
            self._kit.events.publish("deliver", endpoint_id=endpoint_id, retired=True)

    async def run(self) -> None:
        """Hear "deliver" hints from other processes, and of desktops that were resumed."""
        subscription = self._kit.events.subscribe("deliver", "desktop")
        try:
            async for hint in subscription:
                if hint.topic == "desktop":
                    endpoint = self._resuming.pop(str(hint.data.get("id")), None)
                    if endpoint is not None and self._link.connected(endpoint):
                        await self._heard(endpoint, None)
                elif hint.topic == "deliver":
                    endpoint_id = str(hint.data.get("endpoint_id"))
                    if hint.data.get("retired"):
                        self._link.drop(endpoint_id)
                    elif self._link.connected(endpoint_id):
                        await self._heard(endpoint_id, hint.data.get("session_id"))
        finally:
            subscription.close()

    async def _heard(self, endpoint_id: str, session_id: object) -> None:
        try:
            if session_id is None:
                await self.refresh([endpoint_id])
                return
            session = await self._kit.store.sessions.session(str(session_id))
            if session is not None and session.endpoint_id == endpoint_id:
                await self.attend(session)
            elif session is not None:
                self.leave(endpoint_id, session)
        except TriviumError as error:
            # the store is away: the next sweep pushes it
            _log.warning("orders for %s were not pushed: %s", endpoint_id, error.detail)

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

    def stop(self, endpoint_id: str, session_id: str, generation: int) -> None:
        """Tell an endpoint, which is connected here, that a session it carries is over already."""
        reason = "the session is over"
        order = StopOrder(session_id=session_id, generation=generation, reason=reason)
        self._link.send(endpoint_id, order)

    def leave(self, endpoint_id: str, session: Session) -> None:
        """Tell an endpoint to let go of a session that is not its own any more, wherever it is
        connected. One that does not hear it is told when it next says what it carries."""
        if not self._link.connected(endpoint_id):
            data = {"endpoint_id": endpoint_id, "session_id": session.id}
            self._kit.events.publish("deliver", **data)
            return
        self.order_later(endpoint_id, session.id)
        order = StopOrder(
            session_id=session.id, generation=session.generation, reason=session.why, moved=True
        )
        self._link.send(endpoint_id, order)

    def order_later(self, endpoint_id: str, session_id: str) -> None:
        """Forget what was pushed to an endpoint for a session: the next look pushes what is owed
        then."""
        pushed = self._pushed.get(endpoint_id, set())
        pushed.difference_update([key for key in pushed if key[0] == session_id])

    async def attend(self, session: Session) -> None:
        """Push the session's newest message and the wish that its person should answer, once for
        each connection; the same id again is the same message to the endpoint."""
        endpoint_id = session.endpoint_id
        if endpoint_id is None or session.state not in _PEOPLE:
            return
        orders = await self._words(session)
        if orders and not self._link.connected(endpoint_id):
            data = {"endpoint_id": endpoint_id, "session_id": session.id}
            self._kit.events.publish("deliver", **data)
            return
        pushed = self._remembered(endpoint_id)
        for word_id, order in orders:
            key = (session.id, session.generation, word_id)
            if key not in pushed and self._link.send(endpoint_id, order):
                pushed.add(key)

    async def _words(self, session: Session) -> list[tuple[str, Order]]:
        now, words = self._kit.clock.now(), list[tuple[str, Order]]()
        notice, wish = session.notice, session.wish
        fresh = notice is not None and now - notice.at < limits.NOTICE_AGAIN_S * 1000
        if notice is not None and fresh and session.state is SessionState.ACTIVE:
            words.append((notice.id, NoticeOrder(session_id=session.id, notice=notice)))
        if wish is not None and wish.until > now:
            name = await self._endpoint_name(wish.endpoint_id)
            order = ConsentOrder(session_id=session.id, wish=wish, endpoint_name=name)
            words.append((wish.id, order))
        return words

    async def _endpoint_name(self, endpoint_id: str | None) -> str:
        """The endpoint's name; none for a browser."""
        if endpoint_id is None:
            return ""
        endpoint = await self._kit.store.endpoints.endpoint(endpoint_id)
        return endpoint.name if endpoint is not None else endpoint_id

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
        # each placement has its own deadline: who comes back to where he was is shown it again
        key = (session.id, session.generation, f"{session.state} {session.deadline_at}")
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
        if not self._parking.awake(desktop):
            if session.endpoint_id is not None:
                self._resuming[desktop.id] = session.endpoint_id
            return None
        pool = await self._pools.find(session.pool_id)
        secret = ticket_for(session.endpoint_id, kit.ids.secret())
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
