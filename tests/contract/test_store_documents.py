"""Documents: small values that are changed only by who has seen the latest."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from broker.domain.errors import BadRequestError, ConflictError
from broker.limits import DOCUMENT_BYTES_MAX
from broker.ports import Document, Store


async def test_a_document_comes_back_as_it_was_saved(store: Store) -> None:
    value: dict[str, Any] = {"a": [1, 2.5, None, True, {"b": "ü"}], "empty": {}}
    saved = await store.documents.save("site", value, revision=0)
    assert saved == Document(name="site", revision=1, value=value)
    assert await store.documents.document("site") == saved
    assert await store.documents.document("sit") is None


async def test_every_change_is_the_next_revision(store: Store) -> None:
    for revision in range(3):
        saved = await store.documents.save("site", {"n": revision}, revision=revision)
        assert saved.revision == revision + 1
    found = await store.documents.document("site")
    assert found is not None
    assert found.value == {"n": 2}


@pytest.mark.parametrize("seen", [0, 1, 3])
async def test_who_saw_another_revision_changes_nothing(store: Store, seen: int) -> None:
    await store.documents.save("site", {"n": 0}, revision=0)
    await store.documents.save("site", {"n": 1}, revision=1)
    with pytest.raises(ConflictError):
        await store.documents.save("site", {"n": 2}, revision=seen)
    found = await store.documents.document("site")
    assert found == Document(name="site", revision=2, value={"n": 1})


async def test_a_document_that_is_not_there_has_no_revision_to_change(store: Store) -> None:
    with pytest.raises(ConflictError):
        await store.documents.save("site", {}, revision=1)
    assert await store.documents.document("site") is None


async def test_of_many_that_save_at_once_one_does(store: Store) -> None:
    for revision in (0, 1):
        answers = await asyncio.gather(
            *(store.documents.save("x", {"n": n}, revision=revision) for n in range(6)),
            return_exceptions=True,
        )
        assert sum(isinstance(one, ConflictError) for one in answers) == 5
        (saved,) = [one for one in answers if isinstance(one, Document)]
        assert await store.documents.document("x") == saved


async def test_those_of_a_prefix_come_by_name(store: Store) -> None:
    names = (
        "breaker/pol_2",
        "breaker/pol_1",
        "breaker/é",
        "breaker",
        "breakes",
        "site",
        "Breaker/",
    )
    for name in names:
        await store.documents.save(name, {}, revision=0)
    found = [one.name for one in await store.documents.documents("breaker/")]
    assert found == ["breaker/pol_1", "breaker/pol_2", "breaker/é"]
    assert len(await store.documents.documents("")) == len(names)
    assert await store.documents.documents("%") == ()


async def test_a_document_is_small(store: Store) -> None:
    with pytest.raises(BadRequestError):
        await store.documents.save("x", {"text": "x" * DOCUMENT_BYTES_MAX}, revision=0)
    assert await store.documents.document("x") is None
