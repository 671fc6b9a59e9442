"""The list of shadows, one for all brokers: a document that is only ever changed as a whole.

There are few shadows at once (SHADOWS_LIVE_MAX), so one row carries them. A change is decided from
the list as it is and stored only if nobody changed it meanwhile: so a ticket opens once, and what
was withdrawn is not opened afterwards. Rows and fields of a newer broker are left out of what is
read, and stay in the document for as long as they may be of use there.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, fields, replace
from typing import Any, Final, TypeAlias

from broker import limits
from broker.domain.errors import BusyError, ConflictError
from broker.domain.model import Instant
from broker.domain.shadowing import Shadow, ShadowEnd, ShadowMode, ShadowState, kept
from broker.services.kit import Kit

DOCUMENT: Final = "shadows"
_FIELDS: Final = frozenset(one.name for one in fields(Shadow))
_log = logging.getLogger("trivium.shadow")

Shadows_: TypeAlias = Mapping[str, Shadow]
"""by id, oldest first"""
Change: TypeAlias = Callable[[Shadows_], Shadows_]
"""the list as it is to be, from the list as it is; may raise"""


class ShadowBook:
    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    async def read(self) -> Shadows_:
        """Those that can be read. Raises UnavailableError, BusyError."""
        document = await self._kit.store.documents.document(DOCUMENT)
        return {} if document is None else _read(_rows(document.value))

    async def change(self, change: Change) -> Shadows_:
        """Change the list; what it is then.

        Raises what `change` raises; BusyError: others changed it SHADOW_TRIES_MAX times meanwhile;
        UnavailableError.
        """
        documents = self._kit.store.documents
        for _ in range(limits.SHADOW_TRIES_MAX):
            document = await documents.document(DOCUMENT)
            rows = [] if document is None else _rows(document.value)
            before = _read(rows)
            after = change(before)
            if after == before:
                return before
            since = self._kit.clock.now() - limits.SHADOW_KEPT_S * 1000
            left = kept(after.values(), since, limits.SHADOWS_KEPT_MAX)
            value = _value(left, rows, _foreign(rows, before, since))
            try:
                revision = 0 if document is None else document.revision
                await documents.save(DOCUMENT, value, revision=revision)
            except ConflictError:
                continue
            return after
        raise BusyError("others change the list of shadows at the same moment", retry_after_s=1.0)


def _rows(value: Mapping[str, object]) -> list[dict[str, Any]]:
    rows = value.get("shadows")
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _read(rows: Iterable[dict[str, Any]]) -> Shadows_:
    found = {}
    for row in rows:
        try:
            one = _shadow(row)
        except (KeyError, TypeError, ValueError) as error:
            _log.debug("shadow %r cannot be read: %s", row.get("id"), error)
        else:
            found[one.id] = one
    return found


def _shadow(row: dict[str, Any]) -> Shadow:
    """Raises KeyError, TypeError, ValueError: it is not to be read."""
    why = row["why"]
    known = {name: row[name] for name in _FIELDS if name in row}
    return Shadow(
        **known
        | {
            "mode": ShadowMode(row["mode"]),
            "state": ShadowState(row["state"]),
            "why": None if why is None else ShadowEnd(why),
        }
    )


def _foreign(
    rows: Iterable[dict[str, Any]], readable: Shadows_, since: Instant
) -> list[dict[str, Any]]:
    """Rows that only others can read, while they may be of use to them: the last of them."""
    found = [
        row
        for row in rows
        if row.get("id") not in readable
        and isinstance(row.get("until"), int)
        and row["until"] > since
    ]
    return found[-limits.SHADOWS_KEPT_MAX :]


def _value(
    shadows: Iterable[Shadow], rows: Iterable[dict[str, Any]], foreign: list[dict[str, Any]]
) -> Mapping[str, object]:
    """The document. Where it would be too large, those that are over lose their reasons, which the
    audit trail has, too; then the rows that only others can read go, then the oldest over."""
    before = {row.get("id"): row for row in rows}
    many = list(shadows)

    def value() -> Mapping[str, object]:
        return {"shadows": [*foreign, *(before.get(one.id, {}) | asdict(one) for one in many)]}

    if _fits(value()):
        return value()
    many = [one if one.live else replace(one, reason="", browser="") for one in many]
    if not _fits(value()):
        foreign = []
    past = sorted((one for one in many if not one.live), key=lambda one: one.changed_at)
    while past and not _fits(value()):
        many.remove(past.pop(0))
    return value()


def _fits(value: Mapping[str, object]) -> bool:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return len(text.encode()) <= limits.DOCUMENT_BYTES_MAX
