"""Documents, in memory."""

from __future__ import annotations

from collections.abc import Mapping

from broker.domain.errors import ConflictError
from broker.ports import Document
from broker.store.trail import document_text, object_of


class MemoryDocuments:
    """Implements broker.ports.DocumentStore."""

    def __init__(self, documents: dict[str, Document]) -> None:
        self._documents = documents

    async def document(self, name: str) -> Document | None:
        return self._documents.get(name)

    async def documents(self, prefix: str) -> tuple[Document, ...]:
        return tuple(
            self._documents[name] for name in sorted(self._documents) if name.startswith(prefix)
        )

    async def save(self, name: str, value: Mapping[str, object], *, revision: int) -> Document:
        found = self._documents.get(name)
        if revision != (found.revision if found is not None else 0):
            raise ConflictError(f"the document {name!r} was changed meanwhile")
        kept = object_of(document_text(value))
        saved = Document(name=name, revision=revision + 1, value=kept)
        self._documents[name] = saved
        return saved
