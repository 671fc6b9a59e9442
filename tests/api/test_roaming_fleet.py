"""Thin endpoints against a whole broker over real sockets: a session moves, its person is asked
and told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from agents.fleet import Fleet, Settings
from agents.model import Figures, Length, Model
from agents.roster import Place
from agents.system import RealSystem
from broker.domain.model import SessionState
from broker.domain.settings import PoolSettings, TakeOver
from tests.support.app import App, furnish, running_app
from tests.support.eventually import eventually

QUICK = Model(
    figures=Figures(
        steps={step: Length(low_s=0.01, high_s=0.05) for step in ("logon", "reset")},
        input_pause_s=0.2,
        consent_share=1.0,
    )
)


@asynccontextmanager
async def school(data: Path, settings: PoolSettings) -> AsyncIterator[tuple[App, Fleet]]:
    """A broker that makes its own desktops, and two thin endpoints THIN-1 and THIN-2."""
    env = {"TRIVIUM_SPEED": "200"}
    async with running_app(data / "broker", env=env, reconcile=True) as app:
        await furnish(app, desktops=0)
        pool = replace(await app.services.pools.find("library"), settings=settings, spares_min=1)
        await app.services.kit.store.directory.save_pool(pool, new=False)
        app.services.pools.forget()
        fleet = Fleet(
            Settings(
                url=app.url,
                places=[Place(name=f"THIN-{n}", kind="thin", location="") for n in (1, 2)],
                state=data / "fleet.json",
                tokens=await app.services.endpoints.make_tokens(2),
                model=QUICK,
                ramp_s=0.0,
            ),
            RealSystem(),
        )
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(fleet.run())
            try:
                yield app, fleet
            finally:
                fleet.stop()
                async with asyncio.timeout(30):
                    await asyncio.wait([running])
        assert fleet.tally.faults == 0


async def until(look: Callable[[], Coroutine[Any, Any, bool]]) -> None:
    async with asyncio.timeout(60):
        while not await look():
            await asyncio.sleep(0.05)


async def test_a_session_moves_between_two_endpoints_with_consent_and_messages(
    tmp_path: Path,
) -> None:
    settings = PoolSettings(take_over=TakeOver.ASK, consent_s=30)
    async with school(tmp_path, settings) as (app, fleet):
        ann, sessions = app.people["ann"], app.services.kit.store.sessions
        await eventually(lambda: fleet.tally.connected == 2)

        async def at(name: str, state: SessionState) -> bool:
            found = await sessions.session(session_id)
            endpoint = await app.services.kit.store.endpoints.endpoint_by_name(name)
            assert found is not None
            assert endpoint is not None
            return found.state is state and found.endpoint_id == endpoint.id

        body = {"pool": "library", "endpoint": "THIN-1"}
        first = await app.call("POST", "/sessions", ann, body=body)
        session_id = first.json["session"]["id"]
        await until(lambda: at("THIN-1", SessionState.ACTIVE))
        told = await app.call(
            "POST", f"/sessions/{session_id}/message", app.people["alice"], body={"text": "Hello"}
        )
        assert told.status == 200
        await eventually(lambda: fleet.snapshot().notices == 1)
        asked = await app.call("POST", "/sessions", ann, body={**body, "endpoint": "THIN-2"})
        assert asked.json["session"]["wish"] is not None
        await until(lambda: at("THIN-2", SessionState.ACTIVE))
        assert fleet.snapshot().granted == 1
        await eventually(lambda: fleet.snapshot().sessions["vdi"] == 1)
        assert app.broker.displays.open_sessions() == (session_id,)
        ended = await app.call("DELETE", f"/sessions/{session_id}", ann)
        assert ended.status == 202
        await eventually(lambda: fleet.snapshot().sessions["vdi"] == 0)
        assert fleet.snapshot().failures == {}


async def test_a_retired_endpoint_lets_its_session_go_and_its_link_is_closed(
    tmp_path: Path,
) -> None:
    async with school(tmp_path, PoolSettings()) as (app, fleet):
        ann, sessions = app.people["ann"], app.services.kit.store.sessions
        await eventually(lambda: fleet.tally.connected == 2)
        body = {"pool": "library", "endpoint": "THIN-1"}
        made = await app.call("POST", "/sessions", ann, body=body)
        session_id = made.json["session"]["id"]

        async def is_in(state: SessionState) -> bool:
            found = await sessions.session(session_id)
            return found is not None and found.state is state

        await until(lambda: is_in(SessionState.ACTIVE))
        retired = await app.call("POST", "/endpoints/THIN-1/retire", app.people["alice"])
        assert retired.json["state"] == "retired"
        assert await is_in(SessionState.DISCONNECTED)
        endpoint_id = retired.json["id"]
        await eventually(lambda: not app.broker.link.connected(endpoint_id))
        await eventually(lambda: app.broker.displays.open_count == 0)
        again = await app.call("POST", "/sessions", ann, body={**body, "endpoint": "THIN-2"})
        assert again.json["session"]["id"] == session_id
        await until(lambda: is_in(SessionState.ACTIVE))
        await app.call("DELETE", f"/sessions/{session_id}", ann)
        await until(lambda: is_in(SessionState.ENDED))
