"""Who a fleet is, its tokens, its timers, its counts."""

from __future__ import annotations

import asyncio
import json
from math import inf
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents import limits, roster, tally
from agents.core import commands, events
from agents.core.timers import Timers
from agents.roster import Place, RosterError
from agents.tokens import TokenPool
from agents.wheel import Wheel
from broker import wire
from tests.support.eventually import eventually

# -------------------------------------------------------------------------- roster


def test_a_mix_makes_thin_and_fat_endpoints_with_names_of_their_own() -> None:
    places = roster.made_up(roster.parse_mix("thin=2, idv=1,voi=1"))
    assert [(place.name, place.kind) for place in places] == [
        ("thin-0001", "thin"),
        ("thin-0002", "thin"),
        ("idv-0001", "fat"),
        ("voi-0001", "fat"),
    ]


@pytest.mark.parametrize("text", ["", "thin", "thin=", "thin=-1", "thin=1,thin=2", "fat=3", "a=b"])
def test_a_mix_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(RosterError, match="is not one of thin, idv, voi"):
        roster.parse_mix(text)


@given(
    st.dictionaries(st.sampled_from(["thin", "idv", "voi"]), st.integers(1, 500), min_size=1),
    st.integers(1, 5000),
)
def test_a_scaled_mix_has_just_as_many_as_asked_and_keeps_its_proportions(
    mix: dict[str, int], endpoints: int
) -> None:
    scaled = roster.scale(mix, endpoints)
    assert sum(scaled.values()) == endpoints
    total = sum(mix.values())
    assert all(abs(scaled[name] - endpoints * mix[name] / total) < 1 for name in mix)


def test_a_mix_of_nobody_cannot_be_scaled() -> None:
    with pytest.raises(RosterError, match="names no endpoint"):
        roster.scale({"thin": 0}, 5)


def test_names_are_read_with_their_places(tmp_path: Path) -> None:
    path = tmp_path / "names"
    path.write_text(
        '\ufeff{"name":"机房-01","kind":"fat","location":"三楼","other":1}\n\n'
        '{"name":"lab-02","kind":"thin"}\n',
        encoding="utf-8",
    )
    assert roster.read_names(path) == [
        Place(name="机房-01", kind="fat", location="三楼"),
        Place(name="lab-02", kind="thin"),
    ]


@pytest.mark.parametrize(
    "line",
    [
        "lab",
        "{}",
        '{"name":"","kind":"thin"}',
        '{"name":"a","kind":"big"}',
        '{"name":"good","kind":"thin"}',
        json.dumps({"name": "x" * 121, "kind": "thin"}),
    ],
)
def test_a_bad_line_of_names_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "names"
    path.write_text('{"name":"good","kind":"thin"}\n' + line + "\n")
    with pytest.raises(RosterError, match="line 2"):
        roster.read_names(path)


NAMED = [Place(name=f"t{number}", kind="thin") for number in range(3)] + [
    Place(name=f"f{number}", kind="fat") for number in range(4)
]


def test_of_the_named_ones_a_mix_takes_the_first_of_each_kind() -> None:
    chosen = roster.choose(NAMED, {"thin": 2, "idv": 1, "voi": 2}, None)
    assert [place.name for place in chosen] == ["t0", "t1", "f0", "f1", "f2"]


def test_of_the_named_ones_a_number_takes_the_first_and_nothing_takes_all() -> None:
    assert roster.choose(NAMED, None, 2) == NAMED[:2]
    assert roster.choose(NAMED, None, None) == NAMED


def test_more_than_are_named_cannot_be_chosen() -> None:
    with pytest.raises(RosterError, match="5 fat endpoints are asked for, 4 are named"):
        roster.choose(NAMED, {"idv": 5}, None)
    with pytest.raises(RosterError, match="8 endpoints are asked for, 7 are named"):
        roster.choose(NAMED, None, 8)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(RosterError, match="cannot be read"):
        roster.read_tokens(tmp_path / "none")


# -------------------------------------------------------------------------- tokens

REQUEST = wire.EnrolRequest(token="", name="desk", kind="thin", public_key="00")
ANSWER = events.Enrolled(answer=wire.EnrolAnswer(endpoint_id="ept_1", installation_id="ins_1"))


class Desk:
    """Answers enrolments as it is told, by token."""

    def __init__(self, **answers: events.Enrolled | events.EnrolRefused) -> None:
        self.answers = answers
        self.asked: list[str] = []

    async def __call__(self, request: wire.EnrolRequest) -> events.Enrolled | events.EnrolRefused:
        self.asked.append(request.token)
        return self.answers[request.token]


USED = events.EnrolRefused(code="enrolment.refused", final=True)
BUSY = events.EnrolRefused(code="server.busy", retry_after_s=3)


async def test_used_tokens_are_passed_over() -> None:
    desk = Desk(a=USED, b=USED, c=ANSWER, d=ANSWER)
    pool = TokenPool(["a", "b", "c", "d"])
    assert await pool.enrol(REQUEST, desk) is ANSWER
    assert await pool.enrol(REQUEST, desk) is ANSWER
    assert desk.asked == ["a", "b", "c", "d"]


async def test_a_token_that_did_not_get_through_is_kept() -> None:
    desk = Desk(a=BUSY)
    pool = TokenPool(["a"])
    assert await pool.enrol(REQUEST, desk) is BUSY
    desk.answers["a"] = ANSWER
    assert await pool.enrol(REQUEST, desk) is ANSWER


async def test_without_a_good_token_the_refusal_is_final() -> None:
    assert await TokenPool(["a"]).enrol(REQUEST, Desk(a=USED)) is USED
    answer = await TokenPool().enrol(REQUEST, Desk())
    assert isinstance(answer, events.EnrolRefused)
    assert (answer.code, answer.final) == ("enrolment.no_token", True)


# -------------------------------------------------------------------------- timers


def test_deadlines_come_in_order_and_only_once_they_are_due() -> None:
    timers = Timers()
    assert timers.due() == inf
    assert timers.pop(1e9) is None
    timers.set("b", "x", 2)
    timers.set("a", "x", 1)
    timers.set("a", "y", 3)
    assert timers.due() == 1
    assert timers.pop(0.5) is None
    timers.set("a", "x", 5)
    timers.cancel("b", "x")
    timers.cancel("b", "none")
    assert timers.pop(10) == ("a", "y")
    timers.cancel_all("a")
    assert timers.pop(10) is None


class Bell:
    """Rings until its list of times is used up."""

    def __init__(self, clock: Clock, *times: float) -> None:
        self.rings_at = inf
        self.rung: list[float] = []
        self._clock = clock
        self._times = list(times)

    def ring(self) -> float:
        self.rung.append(self._clock.now)
        return self._times.pop(0) if self._times else inf


class Clock:
    def __init__(self) -> None:
        self.now = 0.0


async def test_the_wheel_wakes_each_at_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WHEEL_SLEEP_S_MAX", 0.001)
    clock = Clock()
    wheel = Wheel(lambda: clock.now)
    first, second = Bell(clock, 30.0), Bell(clock)
    wheel.set(first, 10.0)
    wheel.set(second, 50.0)
    wheel.set(second, 20.0)
    wheel.set(second, 40.0)  # later than it is woken already
    for now in (5.0, 10.0, 20.0, 30.0, 60.0):
        clock.now = now
        await asyncio.sleep(0.02)
    wheel.close()
    assert first.rung == [10.0, 30.0]
    assert second.rung == [20.0]


async def test_a_wheel_with_very_many_due_at_once_wakes_them_all() -> None:
    clock = Clock()
    wheel = Wheel(lambda: clock.now)
    bells = [Bell(clock) for _ in range(5 * limits.WHEEL_BATCH)]
    for bell in bells:
        wheel.set(bell, 0.0)
    await eventually(lambda: all(bell.rung for bell in bells))
    wheel.close()
    assert all(len(bell.rung) == 1 for bell in bells)


async def test_a_suspend_does_not_oversleep_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop's clock stands still while the machine sleeps; ours goes on."""
    monkeypatch.setattr(limits, "WHEEL_SLEEP_S_MAX", 0.01)
    clock = Clock()
    wheel = Wheel(lambda: clock.now)
    bell = Bell(clock)
    wheel.set(bell, 3600.0)
    clock.now = 4000.0
    await eventually(lambda: bell.rung)
    wheel.close()


# --------------------------------------------------------------------------- tally


def test_counts_follow_links_and_sessions() -> None:
    counted = tally.Tally()
    counted.endpoints = 2
    for note in (
        commands.Note(what="up"),
        commands.Note(what="up"),
        commands.Note(what="begun", architecture="vdi"),
        commands.Note(what="live", architecture="vdi"),
        commands.Note(what="begun", architecture="voi"),
        commands.Note(what="failed", architecture="voi", code="image.digest"),
        commands.Note(what="down"),
        commands.Note(what="retry"),
    ):
        counted.note(note)
    snapshot = counted.snapshot(1.26)
    assert (snapshot.connected, snapshot.lost, snapshot.retries) == (1, 1, 1)
    assert snapshot.sessions == {"vdi": 1, "idv": 0, "voi": 0}
    assert snapshot.failures == {"image.digest": 1}
    assert msgspec.json.decode(msgspec.json.encode(snapshot))["at_s"] == 1.3
    line = tally.line(snapshot)
    assert "connected 1/2" in line
    assert "vdi 1 idv 0 voi 0" in line
    assert "failed 1" in line
