"""Shadowing: who may ask, what the person answers, what opens a shadow once, and what ends it.

The person is asked, and sees that he is watched, on the console's page that shows his desktop, so
only a display in a browser is shadowed. Each step is written into the audit trail before it holds;
an end right after it, by whoever ended it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from broker import limits
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
from broker.services.decisions import BROKER, asked
from broker.services.kit import Kit
from broker.services.origin import NOWHERE, Origin
from broker.services.pools import Pools
from broker.services.sessions import Sessions
from broker.services.shadow_book import ShadowBook, Shadows_
from broker.services.shadow_trail import ShadowTrail, entry_of
from broker.services.showing import Showing
from broker.services.tickets import in_viewer, secret_hash


class Shadows:
    def __init__(self, kit: Kit, sessions: Sessions, pools: Pools, showing: Showing) -> None:
        self._kit = kit
        self._sessions = sessions
        self._pools = pools
        self._showing = showing
        self._book = ShadowBook(kit)
        self._trail = ShadowTrail(kit)

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
        `consent_s` is a no. Whoever asks again meanwhile, in the same mode, has the one that is
        live already: the person is not asked twice, and others find room.

        Raises:
            ForbiddenError, NotFoundError. BadRequestError: the reason. ConflictError: it is one's
            own session, its display is not open, as many ask as may (SHADOWS_PER_SESSION_MAX), the
            pool's policy says no, or the person did within SHADOW_AGAIN_S.
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
        if (live := _same((await self._book.read()).values(), shadow, session)) is not None:
            return live

        def add(present: Shadows_) -> Shadows_:
            _asked_enough(present.values(), shadow)
            if (same := _same(present.values(), shadow, session)) is not None:
                raise ConflictError(f"you ask that at another place already: {same.id}")
            live = [one for one in present.values() if one.live]
            here = [one.staff_name for one in live if one.session_id == session.id]
            if len(here) >= limits.SHADOWS_PER_SESSION_MAX:
                text = f"{limits.SHADOWS_PER_SESSION_MAX} at most ask to see a session, or see it"
                raise ConflictError(f"{text}; now: {', '.join(dict.fromkeys(here))}")
            if len(live) >= limits.SHADOWS_LIVE_MAX:
                raise BusyError("too many ask or look on in all", retry_after_s=30.0)
            return {**present, shadow.id: shadow}

        async with asked(
            self._kit, entry_of(self._kit, "shadow.ask", shadow, identity.user_id, origin)
        ):
            await self._book.change(add)
        self._trail.tell(shadow)
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

        entry = entry_of(self._kit, "shadow.allow", shadow, identity.user_id, origin)
        async with asked(self._kit, entry):
            after = await self._book.change(allow)
        self._trail.tell(after[shadow_id])
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
        if desktop is None or desktop.generation != before.generation:
            # what is there now may be the next person's
            raise BadTicketError("what was allowed is not there any more")
        mine = (session_id, identity.user_id, identity.token_id, hashed)

        def open_(present: Shadows_) -> Shadows_:
            one = present.get(shadow_id)
            if one is None or (one.session_id, one.staff_id, one.browser, one.ticket) != mine:
                raise BadTicketError
            if one.state is not ShadowState.ALLOWED or lapsed(one, session, now):
                raise BadTicketError("what was allowed is not there any more")
            return {**present, shadow_id: opened(one, now)}

        async with asked(self._kit, entry_of(self._kit, "shadow.begin", before, identity.user_id)):
            after = await self._book.change(open_)
        self._trail.tell(after[shadow_id])
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
        """Which of these, which are open here, may not go on, and why. Only reads.

        Raises UnavailableError, BusyError.
        """
        if not open_here:
            return {}
        present = await self._book.read()
        gone, held = {}, list[Shadow]()
        for one in open_here:
            kept = present.get(one.id)
            if kept is not None and kept.state is ShadowState.OPEN:
                held.append(kept)
            else:
                gone[one.id] = (kept.why if kept is not None else None) or ShadowEnd.ENDED
        return gone | await self._lapsed(held)

    async def tend(self, open_here: Collection[str]) -> None:
        """End in the list what cannot go on, wherever it is open, and give the sign of life of
        those that are open here, by id. Raises UnavailableError, BusyError."""
        await self._trail.catch_up()
        live = [one for one in (await self._book.read()).values() if one.live]
        if not live:
            return
        shown = await self._showing.shown(one.display for one in live)
        ends = {one.id: ShadowEnd.MOVED for one in live if one.display not in shown}
        if ends := ends | await self._lapsed(live):
            await self._finish(ends, BROKER)
        if open_here:
            await self._renew(open_here)

    async def _lapsed(self, live: Collection[Shadow]) -> dict[str, ShadowEnd]:
        if not live:
            return {}
        kit = self._kit
        sessions = {
            one.id: one
            for one in await kit.store.sessions.some(sorted({one.session_id for one in live}))
        }
        now, ends = kit.clock.now(), dict[str, ShadowEnd]()
        for one in live:
            session = sessions.get(one.session_id)
            why = lapsed(one, session, now)
            if why is None and session is not None and await self._forbidden(session, one.mode):
                why = ShadowEnd.NOT_ALLOWED
            if why is not None:
                ends[one.id] = why
        return ends

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
        after = await self._finish({shadow.id: why}, actor, origin)
        return after.get(shadow.id) or over(shadow, why, self._kit.clock.now())

    async def _finish(
        self, ends: Mapping[str, ShadowEnd], actor: str, origin: Origin = NOWHERE
    ) -> Shadows_:
        """End those of them that are live still; the list then. Whoever is first says why."""
        now, ended = self._kit.clock.now(), dict[str, Shadow]()

        def finish(present: Shadows_) -> Shadows_:
            ended.clear()
            for name, why in ends.items():
                if name in present and present[name].live:
                    ended[name] = over(present[name], why, now)
            return {**present, **ended}

        after = await self._book.change(finish)
        for one in ended.values():
            self._trail.tell(one)
        await self._trail.ended(ended.values(), actor, origin)
        return after


def _asked_enough(present: Iterable[Shadow], new: Shadow) -> None:
    """Raises ConflictError: the person said no to the same one of the staff a moment ago."""
    mine = (new.session_id, new.staff_id)
    for one in present:
        again = one.changed_at + limits.SHADOW_AGAIN_S * 1000
        refused = one.state is ShadowState.REFUSED and (one.session_id, one.staff_id) == mine
        if refused and new.asked_at < again:
            left = (again - new.asked_at + 999) // 1000
            raise ConflictError(f"{ENDS[one.why or ShadowEnd.REFUSED]}; ask again in {left} s")


def _same(present: Iterable[Shadow], new: Shadow, session: Session) -> Shadow | None:
    """The live one of the same one of the staff, in the same mode."""
    mine = (new.session_id, new.staff_id, new.mode)
    for one in present:
        same = one.live and (one.session_id, one.staff_id, one.mode) == mine
        if same and lapsed(one, session, new.asked_at) is None:
            return one
    return None


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
