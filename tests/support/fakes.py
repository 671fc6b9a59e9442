"""Fakes that implement ports for tests."""

from __future__ import annotations

import asyncio


class PlainPasswords:
    """The PasswordHasher port without the work: the hash is the password with a mark.

    `verify` lets others run first, as the real one does while a thread hashes.
    """

    async def hash(self, password: str) -> str:
        await asyncio.sleep(0)
        return f"plain:{password}"

    async def verify(self, password: str, encoded: str | None) -> bool:
        await asyncio.sleep(0)
        return encoded == f"plain:{password}"

    def needs_rehash(self, encoded: str) -> bool:
        return False
