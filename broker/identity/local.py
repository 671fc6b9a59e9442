"""Passwords of local accounts: argon2id, in a bounded pool of threads, never on the loop.

The costs are OWASP's first choice (ASVS 5.0 appendix C): 19 MiB, two passes, one lane; about
18 to 35 ms of one core. More work than the pool's queue takes is refused at once, with the time
after which it should fit, so that a sign-in storm cannot starve everything else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from argon2 import PasswordHasher as Argon2
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import Type

from broker.domain.errors import BusyError
from broker.domain.passwords import normal
from broker.limits import HASH_QUEUE_MAX, HASH_THREADS, PASSWORD_CHARS_MAX

MEMORY_KIB: Final = 19_456
PASSES: Final = 2
LANES: Final = 1
HASH_S: Final = 0.035
"""measured on one busy core; what waiting callers are told is reckoned from it"""

Answer = TypeVar("Answer")


class LocalPasswords:
    """The PasswordHasher port. `close` ends its threads.

    `queue_max`: checks that may wait beside those that run. The cost arguments are argon2id's;
    only tests give others.
    """

    def __init__(
        self,
        *,
        threads: int = HASH_THREADS,
        queue_max: int = HASH_QUEUE_MAX,
        memory_kib: int = MEMORY_KIB,
        passes: int = PASSES,
    ) -> None:
        self._argon2 = Argon2(
            time_cost=passes, memory_cost=memory_kib, parallelism=LANES, type=Type.ID
        )
        self._threads = threads
        self._room = threads + queue_max
        self._busy = 0
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="passwords")
        self._nobody = self._argon2.hash("nobody has this password")

    async def hash(self, password: str) -> str:
        """The encoded hash, with its salt and costs. Raises BusyError."""
        return await self._run(lambda: self._argon2.hash(normal(password)))

    async def verify(self, password: str, encoded: str | None) -> bool:
        """See the port. A password that is too long, not text, or held against something that
        is no hash is wrong, after the same work. Raises BusyError."""
        return await self._run(lambda: self._verify(password, encoded))

    def needs_rehash(self, encoded: str) -> bool:
        """Whether other costs made this hash; True also for what is no hash of ours."""
        try:
            return self._argon2.check_needs_rehash(encoded)
        except InvalidHashError:
            return True

    def close(self) -> None:
        """Ends the threads; what still waits is cancelled."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _verify(self, password: str, encoded: str | None) -> bool:
        try:
            text = normal(password)
            text.encode()
        except UnicodeEncodeError:
            text, encoded = "", None
        if encoded is None or len(text) > PASSWORD_CHARS_MAX:
            self._matches(self._nobody, text[:PASSWORD_CHARS_MAX])
            return False
        try:
            return self._matches(encoded, text)
        except InvalidHashError:
            self._matches(self._nobody, text)
            return False

    def _matches(self, encoded: str, text: str) -> bool:
        try:
            return self._argon2.verify(encoded, text)
        except VerificationError:
            return False

    async def _run(self, work: Callable[[], Answer]) -> Answer:
        if self._busy >= self._room:
            wait_s = self._busy * HASH_S / self._threads
            raise BusyError("too many sign-ins at once", retry_after_s=max(1.0, round(wait_s, 1)))
        self._busy += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._busy -= 1
