"""Agents that link up with a broker: real ones as processes, and a desk that attends them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from broker.domain.lifecycle import DesktopEvent
from broker.domain.model import Desktop, DesktopState
from broker.engines.linked_guests import LinkedGuests
from broker.engines.reports import Reports
from broker.ports import Engine, RosterChange
from tests.support.app import App
from tests.support.builders import make_desktop, make_host, make_pool
from tests.support.stores import make_image
from tests.support.tree import ROOT

GENEROUS_S = 60


@contextlib.contextmanager
def agent_at(folder: Path, given: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """The agent, as a process on a machine that is this folder, with these variables."""
    folder.mkdir(exist_ok=True)
    if not (folder / "conf").exists():
        (folder / "conf").write_text("[broker]\nplain = yes\n")
    with (folder / "stderr").open("ab") as told:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.pretend_guest", str(folder)],
            cwd=ROOT, env={"PATH": os.environ["PATH"], **given}, stderr=told,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        assert process.wait(GENEROUS_S) == 0


@contextlib.asynccontextmanager
async def desk(app: App) -> AsyncIterator[LinkedGuests]:
    """Attends agents at that broker as an engine does; what they report is settled."""
    kit, reports = app.services.kit, Reports()
    guests = LinkedGuests(
        clock=kit.clock, chance=kit.chance, reports=reports, links=app.broker.guests
    )
    engine = cast("Engine", SimpleNamespace(reports=reports.stream))
    async with asyncio.TaskGroup() as tasks:
        settling = tasks.create_task(app.services.engine_work.take_reports(engine))
        guests.begin(tasks)
        try:
            yield guests
        finally:
            guests.end()
            reports.close()
            await settling


async def starting_desktop(app: App) -> Desktop:
    """One that was made and has not reported yet."""
    store, now = app.services.kit.store, app.clock.now()
    change = RosterChange(
        images=(make_image(),), hosts=(make_host(),), pools=(make_pool(group_ids=()),)
    )
    await store.directory.apply_roster(change)
    desktop = make_desktop(state=DesktopState.PLANNED, target=DesktopState.READY)
    await store.desktops.add([desktop], [])
    for event in (DesktopEvent.CREATE_BEGUN, DesktopEvent.CREATED):
        desktop = await store.desktops.advance(desktop.id, event, now)
    return desktop


async def state_of(app: App, desktop_id: str = "dsk_1") -> DesktopState:
    found: Any = await app.services.kit.store.desktops.desktop(desktop_id)
    return cast("DesktopState", found.state)


async def until_state(app: App, state: DesktopState, desktop_id: str = "dsk_1") -> None:
    async with asyncio.timeout(GENEROUS_S):
        while await state_of(app, desktop_id) is not state:
            await asyncio.sleep(0.02)


def given(app: App, generation: int = 1, desktop_id: str = "dsk_1") -> dict[str, str]:
    """What an engine gives the machine, with the port that the system chose."""
    found = dict(app.broker.guests.given(desktop_id, generation))
    return found | {"TRIVIUM_BROKER": app.url}
