"""The audit trail: written by whoever changes something, sealed in one place, checked and exported.

The sealer gives entries their numbers and seals (domain/audit.py). One process at a time does it,
under the lease of `Work.SEALER`, and the store refuses seals under an older fence.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from broker.domain.audit import (
    GENESIS,
    AuditEntry,
    Break,
    Outcome,
    SealedEntry,
    first_break,
    sealed,
)
from broker.domain.errors import BadRequestError, ConflictError, TriviumError, UnavailableError
from broker.domain.model import Instant
from broker.limits import AUDIT_ANCHOR_S, AUDIT_SEAL_MAX, AUDIT_SEAL_S, AUDIT_SETTLE_S, EXPORT_BATCH
from broker.ports import AnchorKeeper
from broker.services.kit import Kit
from broker.services.shared_work import SharedWork, Work

_log = logging.getLogger("trivium.audit")

NEVER_SETTLED: Final = "begun, and nobody said how it ended: the broker may have stopped meanwhile"
SEAL_CHARS: Final = 2 * len(GENESIS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """A seal that was kept elsewhere: the entry of this number had it."""

    number: int
    seal: bytes

    @classmethod
    def parse(cls, text: str) -> Anchor:
        """From `number:seal`, the seal in hexadecimal. Raises BadRequestError."""
        number, _, seal = text.partition(":")
        try:
            if number.isascii() and number.isdigit() and len(seal) == SEAL_CHARS:
                return cls(number=int(number), seal=bytes.fromhex(seal))
        except ValueError:
            pass
        raise BadRequestError(f"an anchor is a number, a colon and {SEAL_CHARS} hexadecimal digits")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What a check of the chain found.

    last_number, last_seal: of the last entry up to which the chain holds. unsealed: entries that
    wait for their seal, counted up to AUDIT_SEAL_MAX. broken: None, or the first place where it
    does not hold, with the entries around it as they are stored now (None where there is none).
    """

    sealed: int
    last_number: int
    last_seal: bytes
    unsealed: int
    broken: Break | None = None
    before: SealedEntry | None = None
    here: SealedEntry | None = None


class Audit:
    """`anchors`: where the newest seal is kept outside the store; without it only what callers
    bring shows that the trail's end was cut."""

    def __init__(self, kit: Kit, shared: SharedWork, anchors: AnchorKeeper | None = None) -> None:
        self._kit = kit
        self._shared = shared
        self._anchors = anchors
        self._anchor_due_s = 0.0
        self._told = ""

    # ------------------------------------------------------------------ writing

    async def ask(self, entry: AuditEntry) -> None:
        """Write that something is begun. Raises UnavailableError, BusyError: it must not be."""
        await self._kit.store.audit.append([replace(entry, outcome=Outcome.ASKED)])

    async def settle(
        self,
        entry: AuditEntry,
        outcome: Outcome,
        why: str,
        details: Mapping[str, object],
        about: Mapping[str, str],
    ) -> None:
        """Write how it ended. Raises nothing: what was done is done, and an entry that stays
        open is sealed as unknown. One that was sealed so already gets a second entry."""
        store = self._kit.store.audit
        try:
            if await store.settle(entry.id, outcome, why, details, about):
                return
            fields = {name: one for name, one in about.items() if not getattr(entry, name)}
            late = replace(
                entry,
                id=f"{entry.id}:late",
                at=self._kit.clock.now(),
                outcome=outcome,
                why=why,
                details={**entry.details, **details, "began": entry.id},
                **fields,
            )
            await store.append([late])
        except TriviumError as error:
            _log.warning("how %s (%s) ended was not written: %s", entry.id, outcome, error.detail)

    # ------------------------------------------------------------------ sealing

    async def run(self) -> None:
        """Seal what is there, for ever."""
        while True:
            await self.turn()
            await self._kit.clock.sleep(AUDIT_SEAL_S)

    async def turn(self) -> None:
        """Seal what is there; raises nothing."""
        try:
            while await self.seal() == AUDIT_SEAL_MAX:
                pass
        except TriviumError as error:
            _log.warning("entries wait for their seals: %s", error.detail)
        except Exception:  # noqa: BLE001 - entries without seals must not end the broker
            _log.exception("entries wait for their seals")
        await self._keep_anchor()

    async def seal(self) -> int:
        """Seal up to AUDIT_SEAL_MAX entries if that is this process's work; answers how many.

        Raises UnavailableError, BusyError.
        """
        lease = await self._shared.hold(Work.SEALER)
        if lease is None:
            return 0
        store = self._kit.store.audit
        long_ago = self._kit.clock.now() - AUDIT_SETTLE_S * 1000
        entries = await store.unsealed(long_ago, AUDIT_SEAL_MAX)
        open_ones = [one for one in entries if one.outcome is Outcome.ASKED]
        for one in open_ones:
            await store.settle(one.id, Outcome.UNKNOWN, NEVER_SETTLED, {})
        if open_ones:
            entries = await store.unsealed(long_ago, AUDIT_SEAL_MAX)
        if not entries or not await self._shared.keep(lease):
            return 0
        number, before = await store.last_seal()
        try:
            await store.seal(sealed(before, number, entries), lease)
        except ConflictError:
            # another process sealed meanwhile: it has the lease now
            self._shared.lost(lease)
            return 0
        return len(entries)

    # ------------------------------------------------------------------ anchors

    async def _keep_anchor(self) -> None:
        """Every AUDIT_ANCHOR_S, the newest seal goes where the store is not, unless the one kept
        there does not hold any more: that one is evidence."""
        now_s = self._kit.clock.monotonic()
        if self._anchors is None or now_s < self._anchor_due_s:
            return
        self._anchor_due_s = now_s + AUDIT_ANCHOR_S
        try:
            kept = await self._kept_anchor()
            broken = None if kept is None else await self._anchor_break(kept)
            if broken is not None:
                self._tell(f"the audit trail does not hold at {broken.number}: {broken.why}")
                return
            number, seal = await self._kit.store.audit.last_seal()
            if number and (kept is None or number > kept.number):
                await self._anchors.keep(f"{number}:{seal.hex()}")
                _log.info("audit anchor %d:%s", number, seal.hex())
        except (TriviumError, OSError) as error:
            _log.warning("the audit trail's anchor could not be kept: %s", error)

    async def _kept_anchor(self) -> Anchor | None:
        """Raises OSError."""
        text = await self._anchors.kept() if self._anchors is not None else ""
        if not text:
            return None
        try:
            return Anchor.parse(text)
        except BadRequestError as error:
            self._tell(f"the kept anchor of the audit trail cannot be read: {error.detail}")
            return None

    def _tell(self, what: str) -> None:
        """As an error, once."""
        if what != self._told:
            self._told = what
            _log.error("%s", what)

    # ------------------------------------------------------------------ checking

    async def check(self, since: Anchor | None = None, anchor: Anchor | None = None) -> Checked:
        """Hold the chain against itself, from the first entry on or behind `since`, and against
        the seal of `anchor`, kept elsewhere, and the one that this broker keeps. The entries of
        all of them must have their seals still.

        Raises UnavailableError, BusyError.
        """
        number, before = (since.number, since.seal) if since is not None else (0, GENESIS)
        try:
            kept = await self._kept_anchor()
        except OSError as error:
            raise UnavailableError("the kept anchor could not be read") from error
        for one in (since, anchor, kept):
            if one is not None and (broken := await self._anchor_break(one)) is not None:
                return await self._checked(broken, max(0, one.number - 1), GENESIS)
        while batch := await self._kit.store.audit.chain(number, EXPORT_BATCH):
            broken, before, number = first_break(before, number, batch)
            if broken is not None:
                return await self._checked(broken, number, before)
        return await self._checked(None, number, before)

    async def _anchor_break(self, anchor: Anchor) -> Break | None:
        if anchor.number == 0:
            same = anchor.seal == GENESIS
            return None if same else Break(number=0, why="this is not what every chain begins with")
        found = await self._at(anchor.number)
        if found is None:
            return Break(number=anchor.number, why="missing: it was there when the anchor was made")
        if found.seal != anchor.seal:
            why = "has another seal than the anchor: it or one before it was changed"
            return Break(number=anchor.number, why=why)
        return None

    async def _at(self, number: int) -> SealedEntry | None:
        if number < 1:
            return None
        batch = await self._kit.store.audit.chain(number - 1, 1)
        return next((one for one in batch if one.number == number), None)

    async def _checked(self, broken: Break | None, number: int, seal: bytes) -> Checked:
        store = self._kit.store.audit
        last_number, _ = await store.last_seal()
        waiting = await store.unsealed(self._kit.clock.now() + 1, AUDIT_SEAL_MAX)
        checked = Checked(
            sealed=last_number, last_number=number, last_seal=seal, unsealed=len(waiting)
        )
        if broken is None:
            return checked
        _log.error("the audit trail does not hold at %d: %s", broken.number, broken.why)
        return replace(
            checked,
            broken=broken,
            before=await self._at(broken.number - 1),
            here=await self._at(broken.number),
        )

    # ------------------------------------------------------------------ export

    async def export(self, after: int) -> AsyncIterator[tuple[SealedEntry, ...]]:
        """Sealed entries with a number above `after`, ascending, EXPORT_BATCH at a time."""
        while batch := await self._kit.store.audit.chain(after, EXPORT_BATCH):
            yield batch
            after = batch[-1].number

    def now(self) -> Instant:
        return self._kit.clock.now()
