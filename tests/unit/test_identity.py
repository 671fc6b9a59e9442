"""Password hashing: the real algorithm, its pool, and what it refuses."""

from __future__ import annotations

import asyncio
import threading
import unicodedata
from collections.abc import Iterator

import pytest
from argon2 import extract_parameters
from argon2.low_level import Type

from broker.domain.errors import BusyError
from broker.identity.local import LocalPasswords
from broker.limits import PASSWORD_CHARS_MAX

PHRASE = "seven wet otters"


@pytest.fixture
def passwords() -> Iterator[LocalPasswords]:
    """The real costs."""
    made = LocalPasswords()
    yield made
    made.close()


@pytest.fixture
def cheap() -> Iterator[LocalPasswords]:
    made = LocalPasswords(memory_kib=8, passes=1)
    yield made
    made.close()


async def test_hashes_are_argon2id_at_the_costs_that_owasp_asks_for(
    passwords: LocalPasswords,
) -> None:
    found = extract_parameters(await passwords.hash(PHRASE))
    assert found.type is Type.ID
    assert (found.memory_cost, found.time_cost, found.parallelism) == (19456, 2, 1)
    assert found.salt_len >= 16
    assert found.hash_len >= 32


async def test_the_right_password_and_only_that_one_is_true(cheap: LocalPasswords) -> None:
    encoded = await cheap.hash(PHRASE)
    assert await cheap.verify(PHRASE, encoded)
    for wrong in ("", PHRASE + " ", PHRASE.upper(), PHRASE[:-1], "nobody has this password"):
        assert not await cheap.verify(wrong, encoded)


async def test_the_same_password_never_hashes_the_same(cheap: LocalPasswords) -> None:
    assert await cheap.hash(PHRASE) != await cheap.hash(PHRASE)


async def test_nothing_is_cut_off(cheap: LocalPasswords) -> None:
    long = "x" * (PASSWORD_CHARS_MAX - 1)
    encoded = await cheap.hash(long + "a")
    assert await cheap.verify(long + "a", encoded)
    assert not await cheap.verify(long + "b", encoded)
    assert not await cheap.verify(long + "ab", encoded)


async def test_one_text_in_two_spellings_is_one_password(cheap: LocalPasswords) -> None:
    composed = unicodedata.normalize("NFC", "Zürich im März")
    taken_apart = unicodedata.normalize("NFD", composed)
    assert await cheap.verify(taken_apart, await cheap.hash(composed))
    assert await cheap.verify(composed, await cheap.hash(taken_apart))


async def test_a_password_past_the_limit_is_never_right(cheap: LocalPasswords) -> None:
    long = "x" * (PASSWORD_CHARS_MAX + 1)
    assert not await cheap.verify(long, cheap._argon2.hash(long))


class Counted(LocalPasswords):
    """Counts how often the algorithm itself runs."""

    runs = 0

    def _matches(self, encoded: str, text: str) -> bool:
        self.runs += 1
        assert threading.current_thread() is not threading.main_thread()
        return super()._matches(encoded, text)


@pytest.mark.parametrize(
    ("password", "encoded"),
    [
        (PHRASE, None),
        ("nobody has this password", None),
        (PHRASE, "not a hash"),
        ("x" * 5000, None),
        ("lone \ud800 surrogate", "not a hash"),
    ],
)
async def test_whoever_cannot_be_right_costs_the_same_work_and_is_wrong(
    password: str, encoded: str | None
) -> None:
    hasher = Counted(memory_kib=8, passes=1)
    try:
        assert await hasher.verify(password, encoded) is False
        # a hash that is none fails before any work, then the work is done
        assert hasher.runs == (2 if encoded and "surrogate" not in password else 1)
    finally:
        hasher.close()


async def test_a_hash_of_weaker_costs_still_verifies_and_asks_to_be_made_anew(
    passwords: LocalPasswords, cheap: LocalPasswords
) -> None:
    weak = await cheap.hash(PHRASE)
    assert await passwords.verify(PHRASE, weak)
    assert passwords.needs_rehash(weak)
    assert not passwords.needs_rehash(await passwords.hash(PHRASE))
    assert passwords.needs_rehash("not a hash")


class Held(LocalPasswords):
    """Holds its threads until told, as a storm of sign-ins would."""

    def __init__(self, *, threads: int, queue_max: int) -> None:
        super().__init__(threads=threads, queue_max=queue_max, memory_kib=8, passes=1)
        self.go = threading.Event()

    def _verify(self, password: str, encoded: str | None) -> bool:
        self.go.wait()
        return super()._verify(password, encoded)


async def test_a_full_queue_refuses_at_once_with_a_time_and_the_loop_goes_on() -> None:
    hasher = Held(threads=1, queue_max=3)
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(hasher.verify(PHRASE, None)) for _ in range(4)]
            await asyncio.sleep(0)
            with pytest.raises(BusyError) as refused:
                await hasher.verify(PHRASE, None)
            assert refused.value.retry_after_s is not None
            assert refused.value.retry_after_s >= 1
            hasher.go.set()
        assert [task.result() for task in tasks] == [False] * 4
        assert await hasher.verify(PHRASE, None) is False
    finally:
        hasher.go.set()
        hasher.close()


async def test_callers_that_give_up_give_their_place_back() -> None:
    hasher = Held(threads=1, queue_max=2)
    try:
        for _ in range(5):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await hasher.verify(PHRASE, None)
        hasher.go.set()
        assert await hasher.verify(PHRASE, None) is False
    finally:
        hasher.go.set()
        hasher.close()
