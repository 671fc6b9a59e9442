"""The demo with real desktops: what `make run REAL=1` starts, up to machines that can be used."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.started import all_ended, started
from tools.guest import build


@pytest.fixture
def folder() -> Iterator[Path]:
    """A socket's path is short: not below pytest's directories."""
    with tempfile.TemporaryDirectory(prefix="tvd-") as text:
        yield Path(text)


@pytest.mark.timeout(600)
async def test_the_demo_has_real_desktops_ready_and_leaves_no_machine(folder: Path) -> None:
    image = await asyncio.to_thread(build.image)
    words = ("demo", "--endpoints", "3", "--duration", "10", "--real", str(image))
    data = folder / "data"
    async with started(data, *words) as demo:
        told = await demo.says("of 2 ready", "cannot run here")
        assert "real machines under QEMU" in told, told
        assert int(told.split(" of 2 ready")[0].split()[-1]) >= 1, told
        await demo.says("sign in as visitor")
        demo.process.send_signal(signal.SIGINT)
        code, _, said = await demo.ends()
        assert (code, "everything is stopped" in said) == (0, True), said
    await all_ended(data)
