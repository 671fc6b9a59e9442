"""What is told of shadowing: the audit trail's entries, and the hints for pages and brokers."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from broker import limits
from broker.domain.audit import AuditEntry
from broker.domain.errors import TriviumError
from broker.domain.shadowing import ENDS, Shadow, ShadowMode, ShadowState
from broker.services.decisions import decision
from broker.services.kit import Kit
from broker.services.origin import NOWHERE, Origin

_log = logging.getLogger("trivium.shadow")

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


class ShadowTrail:
    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._unwritten: deque[AuditEntry] = deque(maxlen=limits.SHADOWS_KEPT_MAX)

    async def ended(self, shadows: Iterable[Shadow], actor: str, origin: Origin = NOWHERE) -> None:
        """Write down that these have ended, and what could not be written before.

        They are over already, so a trail that is away is no failure: `catch_up` tries again. The
        entry has the shadow's own id, so that it is written once.
        """
        entries = [
            replace(entry_of(self._kit, _over(one), one, actor, origin), id=f"{one.id}:over")
            for one in shadows
        ]
        waiting = (*self._unwritten, *entries)
        self._unwritten.clear()
        if not waiting:
            return
        try:
            await self._kit.store.audit.append(waiting)
        except asyncio.CancelledError:
            self._unwritten.extend(waiting)
            raise
        except TriviumError as error:
            self._unwritten.extend(waiting)
            _log.warning("%d ends are not written down yet: %s", len(waiting), error.code)

    async def catch_up(self) -> None:
        """Write what could not be written before."""
        await self.ended((), "")

    def tell(self, shadow: Shadow) -> None:
        """A hint for the pages of both, and for the broker that shows it."""
        self._kit.events.publish(
            TOPIC, id=shadow.session_id, user_id=shadow.user_id, shadow=shadow.id,
            state=shadow.state,
        )  # fmt: skip


def entry_of(
    kit: Kit, action: str, shadow: Shadow, actor: str, origin: Origin = NOWHERE
) -> AuditEntry:
    says = _SAYS.get(action)
    why = (
        ENDS[shadow.why]
        if says is None and shadow.why is not None
        else (says or "").format(staff=shadow.staff_name, do=_DO[shadow.mode], reason=shadow.reason)
    )
    return decision(
        kit,
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


def _over(shadow: Shadow) -> str:
    return "shadow.refuse" if shadow.state is ShadowState.REFUSED else "shadow.end"
