"""Shadowing: who may ask, what the person answers, what opens a shadow once, and what ends it.

The person is asked, and sees that he is watched, on the console's page that shows his desktop, so
only a display in a browser is shadowed. Each step is written into the audit trail before it holds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Final

from broker import limits
from broker.domain.audit import AuditEntry
from broker.domain.errors import (
    BadRequestError,
    BadTicketError,
    BusyError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    TriviumError,
    UnsupportedError,
)
from broker.domain.model import Desktop, Identity, Instant, Session
from broker.domain.roles import Permission, allows
from broker.domain.shadowing import (
    ENDS,
    Shadow,
    ShadowEnd,
    ShadowMode,
    ShadowState,
    allowed,
    lapsed,
    may_be_asked,
    opened,
    over,
)
from broker.services.decisions import BROKER, asked, decision
from broker.services.kit import Kit
from broker.services.origin import NOWHERE, Origin
from broker.services.pools import Pools
from broker.services.sessions import Sessions
from broker.services.shadow_book import ShadowBook, Shadows_
from broker.services.tickets import in_viewer, secret_hash

TOPIC: Final = "shadow"
"""of the hints: `id` is the session's"""
_SAYS: Final[Mapping[str, str]] = {
    "shadow.ask": "{staff} asks to {do} this desktop: {reason}",
    "shadow.allow": "the person lets {staff} {do} this desktop",
    "shadow.begin": "{staff} begins to {do} this desktop: {reason}",
}
_DO: Final[Mapping[ShadowMode, str]] = {
    ShadowMode.VIEW: "look at",
    ShadowMode.INTERACTIVE: "take part in",
}


class Shadows:
    def __init__(self, kit: Kit, sessions: Sessions, pools: Pools) -> None:
        self._kit = kit
        self._sessions = sessions
        self._pools = pools
        self._book = ShadowBook(kit)

    # ------------------------------------------------------------------ reading

    async def of_session(self, identity: Identity, session_id: str) -> tuple[Shadow, ...]:
        """The session's shadows, oldest first: for its person, and for whoever may read. Those
        that are over are kept for SHADOW_KEPT_S. Raises NotFoundError."""
        session = await self._sessions.get(identity, session_id)
        found = (await self._book.read()).values()
        return tuple(one for one in found if one.session_id == session.id)

    async def find(self, identity: Identity, session_id: str, shadow_id: str) -> Shadow:
        """Raises NotFoundError."""
        for one in await self.of_session(identity, session_id):
            if one.id == shadow_id:
                return one
        raise NotFoundError(f"there is no shadow {shadow_id!r} of this session")

    async def refusal(self, session: Session, mode: ShadowMode) -> TriviumError | None:
        """Why nobody may be asked to let this session be shadowed so now; None: he may be."""
        pool = await self._pools.find(session.pool_id)
        if why := may_be_asked(session, pool.settings.shadowing, mode):
            return ConflictError(why)
        if session.endpoint_id is not None:
            text = "the person cannot be asked there: the desktop is shown at an endpoint"
            return UnsupportedError(text)
        if session.display is None:
            return ConflictError("its display is not open in a browser")
        if in_viewer(session.display):
            text = "the person cannot be asked there: the desktop is open in another viewer"
            return UnsupportedError(text)
        return None

    # ------------------------------------------------------------------ asking and answering

    async def ask(
        self,
        identity: Identity,
        session_id: str,
        mode: ShadowMode,
        reason: str,
        origin: Origin = NOWHERE,
    ) -> Shadow:
        """Ask the person whether this desktop may be looked at; no answer within the pool's
        `consent_s` is a no.

        Raises:
            ForbiddenError, NotFoundError. BadRequestError: the reason. ConflictError: it is one's
            own session, its display is not open, as many ask as may, or the pool's policy says no.
            UnsupportedError: the person cannot be asked where the desktop is shown. BusyError: too
            many ask in all.
        """
        _may_shadow(identity)
        reason = _checked(reason)
        session = await self._sessions.get(identity, session_id)
        if session.user_id == identity.user_id:
            raise ConflictError("this is your own session; open it instead")
        if (error := await self.refusal(session, mode)) is not None:
            raise error
        pool, now = await self._pools.find(session.pool_id), self._kit.clock.now()
        shadow = Shadow(
            id=self._kit.ids.new("shd"),
            session_id=session.id,
            user_id=session.user_id,
            staff_id=identity.user_id,
            staff_name=identity.username,
            mode=mode,
            reason=reason,
            desktop_id=session.desktop_id or "",
            generation=session.generation,
            display=session.display or "",
            asked_at=now,
            changed_at=now,
            until=now + pool.settings.consent_s * 1000,
        )

        def add(present: Shadows_) -> Shadows_:
            live = [one for one in present.values() if one.live]
            if sum(one.session_id == session.id for one in live) >= limits.SHADOWS_PER_SESSION_MAX:
                raise ConflictError("as many ask to see this session, or see it, as may at once")
            if len(live) >= limits.SHADOWS_LIVE_MAX:
                raise BusyError("too many ask or look on in all", retry_after_s=30.0)
            return {**present, shadow.id: shadow}

        async with asked(self._kit, self._entry("shadow.ask", shadow, identity.user_id, origin)):
            await self._book.change(add)
        self._tell(shadow)
        return shadow

    async def answer(
        self,
        identity: Identity,
        session_id: str,
        shadow_id: str,
        *,
        granted: bool,
        origin: Origin = NOWHERE,
    ) -> Shadow:
        """The person's answer, in the browser that shows the desktop.

        Raises:
            NotFoundError. ForbiddenError: it is somebody else's session, or open at another place.
            ConflictError: nobody asks that (any more): answered, withdrawn, or too late.
        """
        session = await self._sessions.get(identity, session_id)
        if session.user_id != identity.user_id:
            raise ForbiddenError("only the session's own person answers who asks to see it")
        shadow = await self.find(identity, session_id, shadow_id)
        if (session.endpoint_id, session.browser) != (None, identity.token_id):
            raise ForbiddenError("whether it may be seen is answered where the session is open")
        if shadow.state is not ShadowState.ASKED:
            raise ConflictError("nobody asks that any more")
        if not granted:
            return await self._end(shadow, ShadowEnd.REFUSED, identity.user_id, origin)
        now = self._kit.clock.now()

        def allow(present: Shadows_) -> Shadows_:
            one = present.get(shadow_id)
            if one is None or one.state is not ShadowState.ASKED or lapsed(one, session, now):
                raise ConflictError("nobody asks that any more")
            return {**present, shadow_id: allowed(one, now)}

        entry = self._entry("shadow.allow", shadow, identity.user_id, origin)
        async with asked(self._kit, entry):
            after = await self._book.change(allow)
        self._tell(after[shadow_id])
        return after[shadow_id]

    # ------------------------------------------------------------------ opening

    async def ticket(
        self, identity: Identity, session_id: str, shadow_id: str
    ) -> tuple[str, Instant]:
        """What opens an allowed shadow once, in this sign-in, and until when. Another one takes
        the place of the one before.

        Raises:
            NotFoundError. ForbiddenError: somebody else asked. ConflictError: it is not allowed
            (yet), open already, or over.
        """
        _may_shadow(identity)
        shadow = await self.find(identity, session_id, shadow_id)
        if shadow.staff_id != identity.user_id:
            raise ForbiddenError("only whoever asked for it opens it")
        secret, now = self._kit.ids.secret(), self._kit.clock.now()

        def give(present: Shadows_) -> Shadows_:
            one = present.get(shadow_id)
            if one is None or one.state is not ShadowState.ALLOWED or one.until <= now:
                state = "over" if one is None else one.state
                raise ConflictError(f"the shadow is {state}, so there is nothing to open")
            hashed = secret_hash(secret).hex()
            return {**present, shadow_id: replace(one, ticket=hashed, browser=identity.token_id)}

        after = await self._book.change(give)
        return secret, after[shadow_id].until

    async def redeem(
        self, identity: Identity, session_id: str, shadow_id: str, secret: str
    ) -> tuple[Shadow, Desktop]:
        """Use the ticket up: the shadow is open, and of which desktop.

        Raises BadTicketError: not valid, used, of another shadow, session or sign-in; or what it
        was allowed for is not there any more.
        """
        hashed, now = secret_hash(secret).hex(), self._kit.clock.now()
        session = await self._kit.store.sessions.session(session_id)
        before = (await self._book.read()).get(shadow_id)
        if before is None or not allows(identity.role, Permission.SHADOW_SESSIONS):
            raise BadTicketError
        desktop = await self._kit.store.desktops.desktop(before.desktop_id)
        if desktop is None:
            raise BadTicketError("what was allowed is not there any more")
        mine = (session_id, identity.user_id, identity.token_id, hashed)

        def open_(present: Shadows_) -> Shadows_:
            one = present.get(shadow_id)
            if one is None or (one.session_id, one.staff_id, one.browser, one.ticket) != mine:
                raise BadTicketError
            if one.state is not ShadowState.ALLOWED or lapsed(one, session, now):
                raise BadTicketError("what was allowed is not there any more")
            return {**present, shadow_id: opened(one, now)}

        async with asked(self._kit, self._entry("shadow.begin", before, identity.user_id)):
            after = await self._book.change(open_)
        self._tell(after[shadow_id])
        return after[shadow_id], desktop

    # ------------------------------------------------------------------ ending

    async def end(
        self, identity: Identity, session_id: str, shadow_id: str, origin: Origin = NOWHERE
    ) -> Shadow:
        """End it, or withdraw the question: its person and the staff may. One that is over
        already is answered as it is. Raises NotFoundError, ForbiddenError."""
        shadow = await self.find(identity, session_id, shadow_id)
        own = shadow.user_id == identity.user_id
        if not own:
            _may_shadow(identity)
        if not shadow.live:
            return shadow
        why = ShadowEnd.ENDED if not own else ShadowEnd.STOPPED
        if own and shadow.state is ShadowState.ASKED:
            why = ShadowEnd.REFUSED
        return await self._end(shadow, why, identity.user_id, origin)

    async def over(self, shadow_id: str, why: ShadowEnd) -> None:
        """The gateway closed it. Raises UnavailableError, BusyError: it is found without its
        broker's sign of life later."""
        shadow = (await self._book.read()).get(shadow_id)
        if shadow is not None and shadow.live:
            await self._end(shadow, why, BROKER)

    async def look(self, open_here: Collection[Shadow]) -> Mapping[str, ShadowEnd]:
        """Hold every live shadow against its session and its time, end what cannot go on, and
        give the sign of life of those that are open here; which of these must end, and why.

        Raises UnavailableError, BusyError.
        """
        present = await self._book.read()
        live = [one for one in present.values() if one.live]
        if live:
            await self._end_lapsed(live)
            if open_here:
                await self._renew({one.id for one in open_here})
            present = await self._book.read()
        gone = {}
        for one in open_here:
            kept = present.get(one.id)
            if kept is None or kept.state is not ShadowState.OPEN:
                gone[one.id] = (kept.why if kept is not None else None) or ShadowEnd.ENDED
        return gone

    async def _end_lapsed(self, live: Collection[Shadow]) -> None:
        kit = self._kit
        sessions = {
            one.id: one
            for one in await kit.store.sessions.some(sorted({one.session_id for one in live}))
        }
        now = kit.clock.now()
        for one in live:
            session = sessions.get(one.session_id)
            why = lapsed(one, session, now)
            if why is None and session is not None and await self._forbidden(session, one.mode):
                why = ShadowEnd.NOT_ALLOWED
            if why is not None:
                await self._end(one, why, BROKER)

    async def _forbidden(self, session: Session, mode: ShadowMode) -> bool:
        pool = await self._pools.find(session.pool_id)
        return bool(may_be_asked(session, pool.settings.shadowing, mode))

    async def _renew(self, ids: Collection[str]) -> None:
        now = self._kit.clock.now()
        soon = now + limits.SHADOW_LEASE_S * 500
        until = now + limits.SHADOW_LEASE_S * 1000

        def renew(present: Shadows_) -> Shadows_:
            return {
                one.id: replace(one, until=until)
                if one.id in ids and one.state is ShadowState.OPEN and one.until < soon
                else one
                for one in present.values()
            }

        await self._book.change(renew)

    async def _end(
        self, shadow: Shadow, why: ShadowEnd, actor: str, origin: Origin = NOWHERE
    ) -> Shadow:
        """Whoever is first says why. The entry has the shadow's own id, so that two brokers who
        find the same end write it once."""
        now = self._kit.clock.now()

        def finish(present: Shadows_) -> Shadows_:
            one = present.get(shadow.id)
            if one is None or not one.live:
                return present
            return {**present, shadow.id: over(one, why, now)}

        ended = over(shadow, why, now)
        action = "shadow.refuse" if ended.state is ShadowState.REFUSED else "shadow.end"
        entry = replace(self._entry(action, ended, actor, origin), id=f"{shadow.id}:over")
        await self._kit.store.audit.append([entry])
        after = await self._book.change(finish)
        self._tell(ended)
        return after.get(shadow.id, ended)

    # ------------------------------------------------------------------ telling

    def _entry(
        self, action: str, shadow: Shadow, actor: str, origin: Origin = NOWHERE
    ) -> AuditEntry:
        says = _SAYS.get(action)
        why = (
            ENDS[shadow.why]
            if says is None and shadow.why is not None
            else (says or "").format(
                staff=shadow.staff_name, do=_DO[shadow.mode], reason=shadow.reason
            )
        )
        return decision(
            self._kit,
            action,
            why,
            about={
                "user_id": shadow.user_id,
                "session_id": shadow.session_id,
                "desktop_id": shadow.desktop_id,
            },
            actor=actor,
            details={
                "shadow": shadow.id,
                "staff": shadow.staff_id,
                "mode": shadow.mode.value,
                "reason": shadow.reason,
                **({"code": shadow.why.value} if shadow.why is not None else {}),
            },
            origin=origin,
        )

    def _tell(self, shadow: Shadow) -> None:
        """A hint for the pages of both, and for the broker that shows it."""
        self._kit.events.publish(
            TOPIC, id=shadow.session_id, user_id=shadow.user_id, shadow=shadow.id,
            state=shadow.state,
        )  # fmt: skip


def _may_shadow(identity: Identity) -> None:
    if not allows(identity.role, Permission.SHADOW_SESSIONS):
        raise ForbiddenError(f"this needs the permission {Permission.SHADOW_SESSIONS}")


def _checked(reason: str) -> str:
    """Raises BadRequestError."""
    text = " ".join(reason.split())
    if not 1 <= len(text) <= limits.SHADOW_REASON_CHARS_MAX or not text.isprintable():
        said = f"a reason is one line of 1 to {limits.SHADOW_REASON_CHARS_MAX} printable characters"
        raise BadRequestError(said, fields={"field": "reason"})
    return text
