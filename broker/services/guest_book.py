"""Asks of the staff to agents that another process hears: a list that all processes see.

An agent speaks with one process at a time, which need not be the one that was asked. The ask is
written down, whoever hears the agent carries it out and writes down what came of it, and who asked
waits for that. A hint makes it quick; without one it is found at the next look. There are few such
asks at once, so one document carries them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Final, TypeAlias

from broker import limits
from broker.domain.errors import BusyError, ConflictError
from broker.domain.model import Instant
from broker.services.kit import Kit

DOCUMENT: Final = "guest asks"
TOPIC: Final = "guest_ask"
_KEPT_MS: Final = 60_000
"""an ask stays in the list for that long after its time is over"""


@dataclass(frozen=True, slots=True, kw_only=True)
class BookedAsk:
    """`outcome`: empty while it waits, "done", or the code of the error that came of it."""

    id: str
    desktop_id: str
    generation: int
    what: str
    until: Instant
    outcome: str = ""
    why: str = ""


Book: TypeAlias = Mapping[str, BookedAsk]
_FIELDS: Final = frozenset(one.name for one in fields(BookedAsk))


class GuestBook:
    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    async def waiting(self) -> tuple[BookedAsk, ...]:
        """Those that nobody has carried out, and whose time is not over."""
        now = self._kit.clock.now()
        book = await self._read()
        return tuple(one for one in book.values() if not one.outcome and one.until > now)

    async def find(self, ask_id: str) -> BookedAsk | None:
        return (await self._read()).get(ask_id)

    async def add(self, ask: BookedAsk) -> None:
        """Raises BusyError: too many wait, or others change the list all the time."""

        def added(book: Book) -> Book:
            if len(book) >= limits.GUEST_BOOK_MAX:
                text = "too much is asked of guest agents at the same moment"
                raise BusyError(text, retry_after_s=limits.GUEST_ASK_RETRY_S)
            return {**book, ask.id: ask}

        await self._change(added)
        self._kit.events.publish(TOPIC, id=ask.id)

    async def settle(self, ask_id: str, outcome: str, why: str) -> None:
        """Write down what came of it; one that is not in the list any more is let go."""

        def settled(book: Book) -> Book:
            if ask_id not in book:
                return book
            return {**book, ask_id: replace(book[ask_id], outcome=outcome, why=why)}

        await self._change(settled)
        self._kit.events.publish(TOPIC, id=ask_id)

    async def drop(self, ask_id: str) -> None:
        await self._change(lambda book: {key: one for key, one in book.items() if key != ask_id})

    async def _read(self) -> Book:
        document = await self._kit.store.documents.document(DOCUMENT)
        return {} if document is None else _asks(document.value)

    async def _change(self, change: Callable[[Book], Book]) -> None:
        documents = self._kit.store.documents
        for _ in range(limits.GUEST_BOOK_TRIES_MAX):
            document = await documents.document(DOCUMENT)
            before = {} if document is None else _asks(document.value)
            since = self._kit.clock.now() - _KEPT_MS
            fresh = {key: one for key, one in before.items() if one.until > since}
            after = change(fresh)
            if after == before:
                return
            value = {"asks": [asdict(one) for one in after.values()]}
            try:
                revision = 0 if document is None else document.revision
                await documents.save(DOCUMENT, value, revision=revision)
            except ConflictError:
                continue
            return
        raise BusyError("others change the list of asks at the same moment", retry_after_s=1.0)


def _asks(value: Mapping[str, object]) -> Book:
    rows: Any = value.get("asks", ())
    return {one.id: one for one in _read_rows(rows if isinstance(rows, list) else ())}


def _read_rows(rows: Iterable[Any]) -> Iterable[BookedAsk]:
    """Those that can be read: a newer broker may write others."""
    for row in rows:
        try:
            yield BookedAsk(**{name: row[name] for name in _FIELDS if name in row})
        except (KeyError, TypeError):
            continue
