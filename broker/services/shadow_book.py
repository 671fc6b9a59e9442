"""The list of shadows, one for all brokers: a document that is only ever changed as a whole.

There are few shadows at once (SHADOWS_LIVE_MAX), so one row carries them. A change is decided from
the list as it is and stored only if nobody changed it meanwhile: so a ticket opens once, and what
was withdrawn is not opened afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Final, TypeAlias, cast

from broker import limits
from broker.domain.errors import BusyError, ConflictError
from broker.domain.shadowing import Shadow, ShadowEnd, ShadowMode, ShadowState, kept
from broker.services.kit import Kit

DOCUMENT: Final = "shadows"

Shadows_: TypeAlias = Mapping[str, Shadow]
"""by id, oldest first"""
Change: TypeAlias = Callable[[Shadows_], Shadows_]
"""the list as it is to be, from the list as it is; may raise"""


class ShadowBook:
    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    async def read(self) -> Shadows_:
        """Raises UnavailableError, BusyError."""
        document = await self._kit.store.documents.document(DOCUMENT)
        return {} if document is None else _shadows(document.value)

    async def change(self, change: Change) -> Shadows_:
        """Change the list; what it is then.

        Raises what `change` raises; BusyError: others changed it SHADOW_TRIES_MAX times meanwhile;
        UnavailableError.
        """
        documents = self._kit.store.documents
        for _ in range(limits.SHADOW_TRIES_MAX):
            document = await documents.document(DOCUMENT)
            before = {} if document is None else _shadows(document.value)
            after = change(before)
            if after == before:
                return before
            since = self._kit.clock.now() - limits.SHADOW_KEPT_S * 1000
            left = kept(after.values(), since, limits.SHADOWS_KEPT_MAX)
            value = {"shadows": [_plain(one) for one in left]}
            try:
                revision = 0 if document is None else document.revision
                await documents.save(DOCUMENT, value, revision=revision)
            except ConflictError:
                continue
            return after
        raise BusyError("others change the list of shadows at the same moment", retry_after_s=1.0)


def _plain(shadow: Shadow) -> Mapping[str, object]:
    return asdict(shadow)


def _shadows(value: Mapping[str, object]) -> Shadows_:
    found = cast("list[dict[str, Any]]", value.get("shadows", []))
    return {one["id"]: _shadow(one) for one in found}


def _shadow(value: dict[str, Any]) -> Shadow:
    why = value["why"]
    return Shadow(
        **value
        | {
            "mode": ShadowMode(value["mode"]),
            "state": ShadowState(value["state"]),
            "why": None if why is None else ShadowEnd(why),
        }
    )
