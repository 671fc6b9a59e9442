"""Fixtures of the API's tests: a broker on a socket, empty or furnished."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.app import App, furnish, running_app


@pytest.fixture
async def bare(tmp_path: Path) -> AsyncIterator[App]:
    """Nobody and nothing in it."""
    async with running_app(tmp_path) as app:
        yield app


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    """With a small school in it; see tests/support/app.py."""
    async with running_app(tmp_path) as made:
        await furnish(made)
        yield made
