"""A fleet against a broker over real sockets: every path once for real, and the fleet's part."""

from __future__ import annotations

import asyncio
import stat
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agents import limits, roster
from agents.core.identity import Identity
from agents.fleet import Fleet, FleetError, Settings
from agents.model import Figures, Length, Model
from agents.roster import Place
from agents.state import StateError, StateFile
from agents.system import RealSystem
from agents.tally import Snapshot
from broker import wire
from tests.support.eventually import eventually
from tests.support.fake_broker import FakeBroker, image

QUICK = Model(
    figures=Figures(
        steps={
            step: Length(low_s=0.01, high_s=0.05)
            for step in ("logon", "local_boot", "os_start", "reset")
        },
        input_pause_s=0.05,
    )
)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real pauses would make these tests slow; their rules are tested in virtual time."""
    monkeypatch.setattr(limits, "BACKOFF_FIRST_S", 0.2)
    monkeypatch.setattr(limits, "BACKOFF_CAP_S", 0.5)
    monkeypatch.setattr(limits, "STATE_SAVE_S", 0.05)


@pytest.fixture
async def broker() -> AsyncIterator[FakeBroker]:
    async with FakeBroker() as made:
        yield made


Made = Callable[..., Fleet]


@pytest.fixture
def make(broker: FakeBroker, tmp_path: Path) -> Made:
    """A fleet of that mix with tokens enough."""

    def made(mix: str = "thin=1,idv=1,voi=1", **more: Any) -> Fleet:
        places = more.pop("places", None) or roster.made_up(roster.parse_mix(mix))
        tokens = more.pop("tokens", None)
        settings = Settings(
            url=more.pop("url", broker.url),
            places=places,
            state=tmp_path / "fleet.json",
            tokens=broker.make_tokens(len(places)) if tokens is None else tokens,
            model=more.pop("model", QUICK),
            **more,
        )
        return Fleet(settings, RealSystem())

    return made


@asynccontextmanager
async def running(fleet: Fleet) -> AsyncIterator[Fleet]:
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(fleet.run())
        try:
            yield fleet
        finally:
            fleet.stop()
            async with asyncio.timeout(30):
                await asyncio.wait([task])
    assert fleet.tally.faults == 0
    assert fleet.tally.connected == 0


async def all_up(fleet: Fleet, broker: FakeBroker) -> None:
    await eventually(lambda: fleet.runners and len(broker.links) == len(fleet.runners))
    await eventually(lambda: fleet.tally.connected == len(fleet.runners))


async def test_fifty_endpoints_enrol_connect_and_carry_sessions_of_all_three(
    broker: FakeBroker, make: Made
) -> None:
    fleet = make("thin=20,idv=15,voi=15", ramp_s=0.5, warm=0.5)
    async with running(fleet):
        await all_up(fleet, broker)
        sessions = {}
        for one in broker.enrolled.values():
            architecture = {"thin": "vdi"}.get(one.kind) or one.name.partition("-")[0]
            sessions[one.id] = broker.start(one.id, architecture)
        await eventually(lambda: len(broker.told(wire.Live)) == 50)
        snapshot = fleet.snapshot()
        assert snapshot.sessions == {"vdi": 20, "idv": 15, "voi": 15}
        assert snapshot.failures == {}
        assert snapshot.display_bytes > 20 * 3000
        cold = snapshot.image_bytes / 20_000 - 15 * 6
        assert 0 < cold < 15 * 12
        assert cold % 12 == 0
        for endpoint_id, session_id in sessions.items():
            broker.stop(endpoint_id, session_id)
        await eventually(lambda: len(broker.told(wire.Ended)) == 50)
        assert sum(fleet.snapshot().sessions.values()) == 0
    assert len(broker.told(wire.Bye)) == 50


async def test_phases_come_in_order_with_real_bytes(broker: FakeBroker, make: Made) -> None:
    fleet = make()
    async with running(fleet):
        await all_up(fleet, broker)
        for name, architecture in (("thin-0001", "vdi"), ("idv-0001", "idv"), ("voi-0001", "voi")):
            broker.start(broker.id_of(name), architecture)
        await eventually(lambda: len(broker.told(wire.Live)) == 3)
        phases = {
            name: [
                (one.phase, one.bytes_down)
                for one in broker.told(wire.Report, of=broker.id_of(name))
            ]
            for name in ("thin-0001", "idv-0001", "voi-0001")
        }
    assert [phase for phase, _ in phases["thin-0001"]] == ["display_open", "first_frame", "logon"]
    assert phases["idv-0001"][2] == ("image_fetch", 12 * 20_000)
    assert [phase for phase, _ in phases["idv-0001"]] == [
        "lease",
        "image_check",
        "image_fetch",
        "local_boot",
    ]
    assert phases["voi-0001"][1] == ("boot_stream", 6 * 20_000)


async def test_traffic_is_told_with_heartbeats(broker: FakeBroker, make: Made) -> None:
    fleet = make("thin=1")
    async with running(fleet):
        await all_up(fleet, broker)
        broker.start(broker.id_of("thin-0001"), "vdi")
        await eventually(lambda: broker.input_bytes > 100)
        await eventually(
            lambda: (
                sum(one.display for beat in broker.told(wire.Heartbeat) for one in beat.sessions)
                > 3000
            )
        )


async def test_one_fat_endpoint_carries_both_architectures(broker: FakeBroker, make: Made) -> None:
    fleet = make("idv=1")
    async with running(fleet):
        await all_up(fleet, broker)
        here = broker.id_of("idv-0001")
        broker.start(here, "idv")
        broker.start(here, "voi")
        await eventually(lambda: len(broker.told(wire.Live)) == 2)


async def test_a_cold_cache_is_warm_at_the_second_session_and_a_new_version_costs_the_delta(
    broker: FakeBroker, make: Made
) -> None:
    fleet = make("idv=1")
    async with running(fleet):
        await all_up(fleet, broker)
        here = broker.id_of("idv-0001")
        for version, segments in ((1, 400), (1, 400), (2, 400)):
            broker.image = image(version=version, segments=segments)
            session = broker.start(here, "idv")
            count = len(broker.told(wire.Live)) + 1
            await eventually(lambda wanted=count: len(broker.told(wire.Live)) == wanted)  # type: ignore[misc]
            broker.stop(here, session)
        down = [one.bytes_down for one in broker.told(wire.Report) if one.phase == "image_fetch"]
    assert down[0] == 400 * 20_000
    assert down[1] == 0
    assert 0 < down[2] < 400 * 20_000 * 0.1


async def test_a_desktop_is_made_fresh(broker: FakeBroker, make: Made) -> None:
    fleet = make("voi=1")
    async with running(fleet):
        await all_up(fleet, broker)
        broker.send(broker.id_of("voi-0001"), wire.MakeFresh(desktop_id="dsk_1", generation=4))
        await eventually(lambda: broker.told(wire.Fresh))
    assert broker.told(wire.Fresh) == [wire.Fresh(desktop_id="dsk_1", generation=4)]


# ----------------------------------------------------------------------- trouble


async def test_a_cut_link_is_made_again_and_live_sessions_say_so(
    broker: FakeBroker, make: Made
) -> None:
    fleet = make("thin=1,idv=1,voi=1")
    async with running(fleet):
        await all_up(fleet, broker)
        for name, architecture in (("thin-0001", "vdi"), ("idv-0001", "idv"), ("voi-0001", "voi")):
            broker.start(broker.id_of(name), architecture)
        await eventually(lambda: len(broker.told(wire.Live)) == 3)
        for endpoint_id in list(broker.links):
            broker.cut(endpoint_id)
        await eventually(lambda: len(broker.told(wire.Live)) == 6)
    assert broker.told(wire.Failed) == []


async def test_a_restarted_broker_has_everybody_back(broker: FakeBroker, make: Made) -> None:
    fleet = make("thin=10,idv=10")
    async with running(fleet):
        await all_up(fleet, broker)
        boots = {endpoint_id: link.boot_id for endpoint_id, link in broker.links.items()}
        await broker.end()
        broker.links.clear()
        await eventually(lambda: fleet.tally.connected == 0)
        await broker.begin()
        await all_up(fleet, broker)
        assert {key: link.boot_id for key, link in broker.links.items()} == boots


async def test_a_lost_display_is_opened_again_with_the_next_ticket(
    broker: FakeBroker, make: Made
) -> None:
    fleet = make("thin=1")
    async with running(fleet):
        await all_up(fleet, broker)
        here = broker.id_of("thin-0001")
        session = broker.start(here, "vdi")
        await eventually(lambda: len(broker.told(wire.Live)) == 1)
        broker.cut_display(session)
        await eventually(lambda: fleet.snapshot().sessions["vdi"] == 0)
        broker.start(here, "vdi", session_id=session)
        await eventually(lambda: len(broker.told(wire.Live)) == 2)


async def test_wrong_cut_and_refused_segments_are_overcome(
    broker: FakeBroker, make: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FETCH_PAUSE_S", 0.05)
    fleet = make("voi=1")
    broker.wrong.spoil[2] = 1
    broker.wrong.cut_segment = 2
    async with running(fleet):
        await all_up(fleet, broker)
        here = broker.id_of("voi-0001")
        session = broker.start(here, "voi")
        await eventually(lambda: broker.told(wire.Live))
        assert broker.segments[2] >= 2
        broker.stop(here, session)
        broker.wrong.no_token = 2
        session = broker.start(here, "voi")
        await eventually(lambda: broker.wrong.no_token == 0)
        broker.start(here, "voi", session_id=session)
        await eventually(lambda: len(broker.told(wire.Live)) == 2)
        assert len(broker.told(wire.Redeem)) == 3
    assert broker.told(wire.Failed) == []


async def test_a_segment_that_stays_wrong_fails_the_session_and_not_the_endpoint(
    broker: FakeBroker, make: Made
) -> None:
    fleet = make("voi=1")
    broker.wrong.spoil[3] = 2
    async with running(fleet):
        await all_up(fleet, broker)
        broker.start(broker.id_of("voi-0001"), "voi")
        await eventually(lambda: broker.told(wire.Failed))
        assert broker.told(wire.Failed)[0].code == "image.digest"
        broker.start(broker.id_of("voi-0001"), "voi")
        await eventually(lambda: broker.told(wire.Live))


@pytest.mark.parametrize(
    "frame",
    [
        b"binary",
        "not json",
        "",
        '{"type":"from_the_future"}',
        '{"type":"start"}',
        "x" * (limits.LINK_MESSAGE_BYTES_MAX + 1),
        '{"type":"pace","heartbeat_s":5,"x":' + "[" * 60_000 + "}",
    ],
    ids=["binary", "text", "empty", "unknown", "incomplete", "oversized", "deep"],
)
async def test_bad_input_costs_the_link_and_never_the_process(
    broker: FakeBroker, make: Made, frame: bytes | str
) -> None:
    fleet = make("thin=2")
    broker.wrong.after_welcome = [frame]
    async with running(fleet):
        await eventually(lambda: fleet.tally.counts["down"] == 1)
        await all_up(fleet, broker)
        broker.start(broker.id_of("thin-0001"), "vdi")
        await eventually(lambda: broker.told(wire.Live))


async def test_refusals_are_waited_out(broker: FakeBroker, make: Made) -> None:
    fleet = make("thin=5")
    broker.wrong.refuse = wire.Refused(code="server.unavailable")
    async with running(fleet):
        await eventually(lambda: broker.connects >= 15)
        assert fleet.tally.connected == 0
        broker.wrong.refuse = None
        await all_up(fleet, broker)


async def test_an_http_503_is_waited_out(broker: FakeBroker, make: Made) -> None:
    fleet = make("thin=3")
    broker.wrong.refuse_http = 3
    broker.wrong.enrol_busy = 2
    async with running(fleet):
        await all_up(fleet, broker)
    assert broker.wrong.refuse_http == 0


async def test_a_final_refusal_stops_one_agent_and_not_the_others(
    broker: FakeBroker, make: Made
) -> None:
    fleet = make("thin=2")
    async with running(fleet):
        await all_up(fleet, broker)
        refused = wire.Refused(code="endpoint.bad_proof", detail="retired", final=True)
        broker.send(broker.id_of("thin-0001"), refused)
        await eventually(lambda: fleet.finals)
        assert [(name, one.code) for name, one in fleet.finals] == [
            ("thin-0001", "endpoint.bad_proof")
        ]
        assert fleet.tally.connected == 1
        connects = broker.connects
        await asyncio.sleep(1)
        assert broker.connects == connects


async def test_a_fleet_of_which_nobody_is_left_ends(broker: FakeBroker, make: Made) -> None:
    fleet = make("thin=3", tokens=[])
    async with asyncio.timeout(30):
        await fleet.run()
    assert {one.code for _, one in fleet.finals} == {"enrolment.no_token"}


async def test_pings_are_answered_on_links_and_displays(broker: FakeBroker, make: Made) -> None:
    broker.wrong.ping_s = 0.2
    figures = Figures(steps=QUICK.figures.steps, input_pause_s=1000.0)
    fleet = make("thin=1", model=Model(figures=figures))  # nothing but pings crosses the wire
    async with running(fleet):
        await all_up(fleet, broker)
        broker.start(broker.id_of("thin-0001"), "vdi")
        await eventually(lambda: broker.told(wire.Live))
        await asyncio.sleep(1.0)  # ten times what a silent peer would be given
        snapshot = fleet.snapshot()
        assert (snapshot.lost, snapshot.connected, snapshot.sessions["vdi"]) == (0, 1, 1)


async def test_a_broker_that_hangs_after_the_welcome_is_left(
    broker: FakeBroker, make: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SILENCE_S_MIN", 0.5)
    monkeypatch.setattr(limits, "SILENCE_BEATS", 0.5)
    broker.wrong.no_pong = True
    fleet = make("thin=1")
    async with running(fleet):
        await eventually(lambda: fleet.tally.counts["down"] >= 2)
        broker.wrong.no_pong = False
        await all_up(fleet, broker)


async def test_handshakes_are_let_in_a_few_at_a_time(
    broker: FakeBroker, make: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CONNECTS_AT_ONCE_MAX", 3)
    under_way = most = 0
    handshake = broker._handshake

    async def counted(ws: Any) -> Any:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.01)
        try:
            return await handshake(ws)
        finally:
            under_way -= 1

    monkeypatch.setattr(broker, "_handshake", counted)
    fleet = make("thin=30")
    async with running(fleet):
        await all_up(fleet, broker)
    assert 1 < most <= 3


# ------------------------------------------------------------------------- state


async def test_a_second_run_takes_up_where_the_first_left_off(
    broker: FakeBroker, make: Made, tmp_path: Path
) -> None:
    first = make("thin=5,idv=5")
    async with running(first):
        await all_up(first, broker)
    known = dict(broker.enrolled)
    assert not broker.tokens

    await eventually(lambda: not broker.links)
    second = make("thin=5,idv=5", tokens=[])
    async with running(second):
        await all_up(second, broker)
    assert broker.enrolled == known
    mode = (tmp_path / "fleet.json").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600


async def test_identities_are_written_one_write_at_a_time_and_none_is_missing_at_the_end(
    broker: FakeBroker, make: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, under_way, most = StateFile.save, 0, 0

    def slowly(state: StateFile, identities: Iterable[Identity]) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        time.sleep(0.1)
        save(state, identities)
        under_way -= 1

    monkeypatch.setattr(StateFile, "save", slowly)
    fleet = make("thin=20", ramp_s=0.5)
    async with running(fleet):
        await all_up(fleet, broker)
    assert most == 1
    with StateFile(tmp_path / "fleet.json") as state:
        assert all(one.endpoint_id for one in state.load().values())


async def test_used_tokens_are_passed_over_and_a_grown_fleet_enrols_the_new_ones(
    broker: FakeBroker, make: Made
) -> None:
    tokens = broker.make_tokens(8)
    for mix in ("thin=3", "thin=8"):
        fleet = make(mix, tokens=tokens)
        async with running(fleet):
            await all_up(fleet, broker)
        await eventually(lambda: not broker.links)
    assert len(broker.enrolled) == 8


async def test_an_enrolment_whose_answer_was_lost_is_made_again_with_the_same_key(
    broker: FakeBroker, make: Made
) -> None:
    broker.wrong.lose_enrolment = 1
    fleet = make("thin=1", tokens=broker.make_tokens(2))
    async with running(fleet):
        await all_up(fleet, broker)
    assert len(broker.enrolled) == 1


async def test_two_fleets_do_not_share_one_state(broker: FakeBroker, make: Made) -> None:
    fleet = make("thin=1")
    async with running(fleet):
        await all_up(fleet, broker)
        with pytest.raises(StateError, match="in use"):
            await make("thin=1").run()


async def test_a_broker_of_another_installation_is_not_told_anything(
    broker: FakeBroker, make: Made
) -> None:
    fleet = make("thin=1")
    async with running(fleet):
        await all_up(fleet, broker)
    broker.installation_id = "ins_other"
    second = make("thin=1")
    async with running(second):
        connects = broker.connects
        await eventually(lambda: broker.connects > connects + 1)
        assert second.tally.connected == 0
    assert not second.finals


async def test_a_name_that_is_kept_as_another_kind_is_refused(
    broker: FakeBroker, make: Made
) -> None:
    fleet = make(places=[Place(name="desk", kind="thin")])
    async with running(fleet):
        await all_up(fleet, broker)
    with pytest.raises(StateError, match="kept as a thin endpoint"):
        await make(places=[Place(name="desk", kind="fat")]).run()


@pytest.mark.parametrize("url", ["ftp://broker", "broker:8080", "", "http://"])
async def test_an_address_that_is_none_is_refused(make: Made, url: str) -> None:
    with pytest.raises(FleetError, match="not an http or https address"):
        await make(url=url).run()


async def test_a_fleet_larger_than_the_machine_allows_says_so(
    broker: FakeBroker, make: Made
) -> None:
    class Small(RealSystem):
        def open_files(self, wanted: int) -> int:
            return 100

    fleet = make("thin=50")
    fleet._system = Small()
    with pytest.raises(FleetError, match="114 open files"):
        await fleet.run()


async def test_a_real_endpoint_keeps_segments_on_its_disk(
    broker: FakeBroker, make: Made, tmp_path: Path
) -> None:
    for lives in (1, 2):
        fleet = make(places=[Place(name="desk", kind="fat")], cache=tmp_path / "cache")
        async with running(fleet):
            await all_up(fleet, broker)
            broker.start(broker.id_of("desk"), "idv")
            await eventually(lambda wanted=lives: len(broker.told(wire.Live)) == wanted)  # type: ignore[misc]
    down = [one.bytes_down for one in broker.told(wire.Report) if one.phase == "image_fetch"]
    assert down == [12 * 20_000, 0]
    files = [path for path in (tmp_path / "cache").glob("??/*") if path.is_file()]
    assert len(files) == 12


async def test_progress_is_told_while_it_runs_and_at_the_end(
    broker: FakeBroker, tmp_path: Path
) -> None:
    told: list[Snapshot] = []
    settings = Settings(
        url=broker.url,
        places=[Place(name="desk", kind="thin")],
        state=tmp_path / "state.json",
        tokens=broker.make_tokens(1),
        every_s=0.05,
    )
    fleet = Fleet(settings, RealSystem(), tell=told.append)
    async with running(fleet):
        await eventually(lambda: any(one.connected == 1 for one in told))
    assert told[-1].connected == 0
    assert told[-1].control_bytes > 100
