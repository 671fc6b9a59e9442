"""What a display carries is told with its session and counted in the metrics."""

from __future__ import annotations

import re

from tests.api.test_agents_http import display, live, present, ticket
from tests.support.app import App
from tests.support.eventually import eventually

__all__ = ["live"]


async def measured(live: App, session_id: str) -> dict[str, float] | None:
    await live.broker.displays.flush()
    found = await live.call("GET", f"/sessions/{session_id}", live.people["alice"])
    answer: dict[str, float] | None = found.json["display"]
    return answer


async def metrics(live: App) -> str:
    return (await live.call("GET", "/metrics")).body.decode()


def figure(text: str, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    assert found is not None, name
    return float(found[1])


async def test_an_open_display_is_measured_both_ways_with_its_round_trip(live: App) -> None:
    session_id, secret = await ticket(live)
    assert await measured(live, session_id) is None
    async with display(live, session_id) as socket:
        await present(socket, secret)
        frame = (await socket.receive()).data
        await socket.send_bytes(b"\x04\x01" + bytes(7))
        # the ping is answered by the client's library, once it reads what comes after
        seen: dict[str, float] = {}
        while not (seen.get("round_trip_ms") and seen.get("bytes_up")):
            await socket.receive()
            now = await measured(live, session_id)
            assert now is not None
            seen |= {name: value for name, value in now.items() if value}
        assert seen["bytes_up"] == 9
        text = await metrics(live)
        assert figure(text, "trivium_displays_open") == 1
        assert figure(text, 'trivium_display_bytes_total{direction="down"}') >= len(frame)
        assert figure(text, 'trivium_display_bytes_total{direction="up"}') == 9
        assert figure(text, "trivium_display_round_trip_seconds_count") >= 1
        await live.call("DELETE", f"/sessions/{session_id}", live.people["ann"])
        live.broker.displays.kill(session_id)
        await eventually(lambda: live.broker.displays.open_count == 0)
    assert await measured(live, session_id) is None
    text = await metrics(live)
    assert figure(text, "trivium_displays_open") == 0
    assert figure(text, 'trivium_display_ends_total{why="display.killed"}') == 1
    # no label grows with sessions or people
    assert session_id not in text
