"""Circuit breakers: what is remembered of pools whose machines cannot be made on a host.

One small document for each pool and host that had a failure, changed by compare-and-set, for any
process may carry out a job. How a breaker opens, tries and closes is in domain/planning/breaker.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from typing import Any, Final

from broker.domain.audit import AuditEntry, Outcome
from broker.domain.errors import ConflictError, NotFoundError
from broker.domain.model import Instant, Pool
from broker.domain.planning.breaker import (
    CLOSED,
    Breaker,
    BreakerState,
    begun,
    failed,
    state_of,
    succeeded,
)
from broker.ports import Document
from broker.services.decisions import asked, decision
from broker.services.kit import Kit
from broker.services.origin import NOWHERE, Origin
from broker.services.pools import Pools

_log = logging.getLogger("trivium.breakers")

PREFIX: Final = "breaker:"
_SAVE_TRIES: Final = 8
"""of one change, when other processes change the same breaker; then it goes uncounted"""
ERROR_CHARS_MAX: Final = 300
"""of an engine's text that a breaker keeps"""
TOLD_CHARS_MAX: Final = 100
"""of it in the sentence that tells of a breaker; `host breakers` has the rest"""

Change = Callable[[Breaker, Instant], Breaker]


def document_name(pool_id: str, host_id: str) -> str:
    return f"{PREFIX}{pool_id}:{host_id}"


def _read(document: Document | None) -> Breaker:
    if document is None:
        return CLOSED
    values: Mapping[str, Any] = document.value
    return Breaker(**{one.name: values[one.name] for one in fields(Breaker) if one.name in values})


class Breakers:
    def __init__(self, kit: Kit, pools: Pools) -> None:
        self._kit = kit
        self._pools = pools

        self.paused: int | None = None
        """breakers that let nothing through, as of the last `all`; None: not read yet"""

    async def all(self) -> Mapping[tuple[str, str], Breaker]:
        """(pool id, host id) -> its breaker, of those that remember something; one read."""
        found: dict[tuple[str, str], Breaker] = {}
        for document in await self._kit.store.documents.documents(PREFIX):
            breaker = _read(document)
            if breaker != CLOSED:
                pool_id, _, host_id = document.name.removeprefix(PREFIX).partition(":")
                found[pool_id, host_id] = breaker
        now = self._kit.clock.now()
        self.paused = sum(state_of(one, now) is BreakerState.OPEN for one in found.values())
        return found

    async def outcome(self, pool_id: str, host_id: str, ok: bool, detail: str) -> None:  # noqa: FBT001 - the callback's shape
        """A machine of this pool came up on this host, or could not be made there.

        Raises UnavailableError, BusyError when the store does not take it.
        """
        try:
            pool = await self._pools.find(pool_id)
        except NotFoundError:
            return
        text = detail[:ERROR_CHARS_MAX]

        def change(breaker: Breaker, now: Instant) -> Breaker:
            if ok:
                return succeeded(breaker, now)
            return failed(breaker, pool.settings, now, text)

        await self._change(pool, host_id, change)

    async def begun(self, pool: Pool, host_id: str) -> None:
        """A machine was begun: a half-open breaker waits for what becomes of it."""
        await self._change(pool, host_id, begun)

    async def reset(
        self, host_id: str, pool: Pool | None, *, actor: str, origin: Origin = NOWHERE
    ) -> int:
        """An administrator has repaired what failed: the breakers of this pool (None: of every
        pool) on this host forget it. Answers how many did."""
        about = {"host_id": host_id} | ({"pool_id": pool.id} if pool is not None else {})
        what = pool.name if pool is not None else "every pool"
        entry = decision(
            self._kit,
            "breaker.reset",
            f"machines of {what} are made there again",
            about=about,
            actor=actor,
            origin=origin,
        )
        count = 0
        async with asked(self._kit, entry):
            for pool_id, on_host in await self.all():
                if on_host != host_id or (pool is not None and pool_id != pool.id):
                    continue
                try:
                    found = await self._pools.find(pool_id)
                except NotFoundError:
                    continue
                await self._change(found, host_id, lambda _, __: CLOSED)
                count += 1
        self._kit.events.publish("work", host_id=host_id)
        return count

    async def _change(self, pool: Pool, host_id: str, change: Change) -> None:
        documents, clock = self._kit.store.documents, self._kit.clock
        name = document_name(pool.id, host_id)
        for _ in range(_SAVE_TRIES):
            document = await documents.document(name)
            now, before = clock.now(), _read(document)
            after = change(before, now)
            if after == before:
                return
            try:
                saved = await documents.save(
                    name,
                    asdict(after),
                    revision=0 if document is None else document.revision,
                )
            except ConflictError:
                continue
            await self._tell(pool, host_id, saved, before, after)
            return
        _log.warning("%s on %s: an outcome was not counted", pool.name, host_id)

    async def _tell(
        self, pool: Pool, host_id: str, saved: Document, before: Breaker, after: Breaker
    ) -> None:
        now = self._kit.clock.now()
        opened = after.opened > before.opened
        closed = after.until is None and before.until is not None
        if not opened and not closed:
            return
        if opened and after.until is not None:
            pause_s = (after.until - now) // 1000
            why = (
                f"no machine of {pool.name} is begun there for {pause_s} s "
                f"after {after.failures} failures: {_brief(after.error)}"
            )
        else:
            why = f"machines of {pool.name} can be made there again"
        _log.warning("%s: %s", host_id, why)
        entry = AuditEntry(
            # named by the change, so that telling it twice writes one entry
            id=f"{saved.name}:{saved.revision}",
            at=now,
            actor="broker",
            action="breaker.open" if opened else "breaker.close",
            outcome=Outcome.DONE,
            why=why,
            details={"failures": after.failures, "opened": after.opened},
            pool_id=pool.id,
            host_id=host_id,
        )
        await self._kit.store.audit.append([entry])
        self._kit.events.publish("host", id=host_id)


def _brief(text: str) -> str:
    return text if len(text) <= TOLD_CHARS_MAX else f"{text[: TOLD_CHARS_MAX - 1].rstrip()}…"
