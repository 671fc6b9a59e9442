"""The way to the broker: enrolment, handshake, heartbeats, refusals and the return after each."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents import limits
from agents.chance import Chance, key_of
from agents.core import commands, events
from agents.core.backoff import Backoff
from agents.core.link import State
from broker import wire
from tests.support.agent_script import (
    INSTALLATION,
    PUBLIC_KEY,
    Script,
    endpoint,
    identity,
    ready,
    start,
)

DAY_S = 24 * 3600.0


def test_a_new_endpoint_enrols_keeps_its_identity_and_connects() -> None:
    script = Script(endpoint("thin", enrolled=False))
    script.give(events.Begin())
    asked = script.wait_for(commands.Enrol)
    assert asked.request.public_key == PUBLIC_KEY.public_bytes_raw().hex()
    assert (asked.request.name, asked.request.kind) == ("desk-1", "thin")

    answer = wire.EnrolAnswer(endpoint_id="ept_1", installation_id=INSTALLATION)
    script.give(events.Enrolled(answer=answer))
    kept = script.made(commands.SaveIdentity)[0].identity
    assert (kept.endpoint_id, kept.installation_id) == ("ept_1", INSTALLATION)
    assert script.made(commands.Connect)


def test_the_key_is_kept_over_enrolments_that_did_not_get_through() -> None:
    script = Script(endpoint(enrolled=False))
    script.give(events.Begin())
    first = script.wait_for(commands.Enrol)
    script.give(events.EnrolRefused(code="link.unreachable"))
    assert script.wait_for(commands.Enrol) == first


def test_a_refused_token_ends_the_agent_with_the_reason() -> None:
    script = Script(endpoint(enrolled=False))
    script.give(events.Begin())
    script.wait_for(commands.Enrol)
    script.give(events.EnrolRefused(code="enrolment.refused", detail="used", final=True))
    assert script.made(commands.Finish) == [
        commands.Finish(code="enrolment.refused", detail="used")
    ]
    assert script.wait(DAY_S) == []


def test_an_enrolment_that_is_to_wait_waits_at_least_that_long() -> None:
    script = Script(endpoint(enrolled=False))
    script.give(events.Begin())
    script.wait_for(commands.Enrol)
    script.give(events.EnrolRefused(code="server.busy", retry_after_s=40))
    asked_at = script.now
    script.wait_for(commands.Enrol)
    assert 40 <= script.now - asked_at <= 80


def test_the_handshake_says_hello_and_proves_the_key_of_this_endpoint() -> None:
    script = Script()
    script.give(events.Begin())
    script.wait_for(commands.Connect)
    script.give(events.LinkOpened(link_no=1))
    hello = script.said(wire.Hello)[0]
    assert (hello.endpoint_id, hello.boot_id) == ("ept_1", "boot_1")

    script.hear(wire.Challenge(nonce="n", installation_id=INSTALLATION))
    signature = bytes.fromhex(script.said(wire.Proof)[0].signature)
    PUBLIC_KEY.verify(signature, wire.proof_payload(INSTALLATION, "ept_1", "n"))

    script.hear(wire.Welcome(heartbeat_s=30, time_ms=1))
    assert script.made(commands.Admitted)
    assert script.core.link.is_up


def test_a_broker_of_another_installation_gets_no_signature_and_is_tried_again_later() -> None:
    script = Script()
    script.give(events.Begin())
    script.wait_for(commands.Connect)
    script.give(events.LinkOpened(link_no=1))
    script.hear(wire.Challenge(nonce="n", installation_id="ins_other"))
    assert not script.said(wire.Proof)
    assert script.made(commands.CloseLink)
    assert script.wait_for(commands.Connect).link_no == 2


@pytest.mark.parametrize(
    "message",
    [
        wire.Welcome(heartbeat_s=30, time_ms=1),
        wire.Pace(heartbeat_s=30),
        start("idv"),
        wire.MakeFresh(desktop_id="dsk_1", generation=1),
    ],
)
def test_orders_before_the_proof_are_a_protocol_error(message: wire.FromBroker) -> None:
    script = Script()
    script.give(events.Begin())
    script.wait_for(commands.Connect)
    script.give(events.LinkOpened(link_no=1))
    script.hear(message)
    assert script.made(commands.CloseLink)[0].code == 1002
    assert script.core.link.state is State.WAITING


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"nonsense",
        b'{"type":"no_such_thing"}',
        b'{"type":"start"}',
        b'{"type":"pace","heartbeat_s":"fast"}',
        b'{"type":"pace","heartbeat_s":1e400}',
        b'{"type":"pace","heartbeat_s":1,"x":' + b"[" * 100_000,
    ],
)
def test_garbage_on_the_link_closes_it_and_the_agent_comes_back(data: bytes) -> None:
    script = ready()
    script.give(events.LinkText(link_no=script.link_no, data=data))
    assert script.made(commands.CloseLink)[0].code == 1002
    assert script.wait_for(commands.Connect).link_no == 2


def test_binary_on_the_link_closes_it() -> None:
    script = ready()
    script.give(events.LinkGarbage(link_no=script.link_no, why="binary"))
    assert script.made(commands.CloseLink)


def test_what_comes_late_from_an_earlier_link_changes_nothing() -> None:
    script = ready()
    script.lose()
    script.connect()
    assert script.give(events.LinkLost(link_no=1, why="late")) == []
    assert script.give(events.LinkText(link_no=1, data=b"garbage")) == []
    assert script.core.link.is_up


def test_heartbeats_keep_the_pace_and_begin_after_a_random_part_of_it() -> None:
    firsts = set()
    for seed in range(20):
        script = Script(seed=seed)
        script.give(events.Begin())
        script.wait_for(commands.Connect)
        script.welcome(heartbeat_s=30)
        up_at = script.now
        beats = []
        for _ in range(3):
            script.wait_for(commands.Ping)
            beats.append(script.now - up_at)
        assert 0 <= beats[0] < 30
        assert [b - a for a, b in pairwise(beats)] == pytest.approx([30, 30])
        firsts.add(round(beats[0], 3))
    assert len(firsts) > 15
    assert max(firsts) - min(firsts) > 15


def test_a_new_pace_is_obeyed_and_spread() -> None:
    script = ready()
    script.hear(wire.Pace(heartbeat_s=10))
    paced_at = script.now
    script.wait_for(commands.Ping)
    assert script.now - paced_at < 10
    first_at = script.now
    script.wait_for(commands.Ping)
    assert script.now - first_at == pytest.approx(10)


@pytest.mark.parametrize("pace", [0.0, -1.0, 1e-9])
def test_an_impossible_pace_does_not_make_a_storm(pace: float) -> None:
    script = ready()
    script.hear(wire.Pace(heartbeat_s=pace))
    made = script.wait(20)
    assert sum(isinstance(one, commands.Ping) for one in made) <= 21


def test_heartbeats_are_numbered_over_all_links_of_a_boot() -> None:
    script = Script()
    script.give(events.Begin())
    for _ in range(2):
        script.wait_for(commands.Connect)
        script.welcome(heartbeat_s=5)
        script.wait(12)
        script.lose()
    numbers = [beat.seq for beat in script.told(wire.Heartbeat)]
    assert numbers == sorted(set(numbers))
    assert len(numbers) >= 4


def test_a_broker_that_answers_nothing_any_more_is_left() -> None:
    script = Script()
    script.give(events.Begin())
    script.wait_for(commands.Connect)
    script.welcome(heartbeat_s=30)
    script.answers_pings = False
    up_at = script.now
    closed = script.wait_for(commands.CloseLink)
    assert closed.why == "the broker is silent"
    assert limits.SILENCE_BEATS * 30 < script.now - up_at < limits.SILENCE_BEATS * 30 + 60


def test_a_pong_is_a_sign_of_life() -> None:
    script = Script()
    script.give(events.Begin())
    script.wait_for(commands.Connect)
    script.welcome(heartbeat_s=30)
    for _ in range(1000):
        script.wait_for(commands.Ping)
    assert script.core.link.is_up


def test_an_unfinished_handshake_is_given_up() -> None:
    script = Script()
    script.give(events.Begin())
    script.wait_for(commands.Connect)
    script.give(events.LinkOpened(link_no=1))
    script.wait(limits.HANDSHAKE_S)
    assert script.made(commands.CloseLink)
    script.wait_for(commands.Connect)


# ------------------------------------------------------------------------ refusals


def test_a_final_refusal_ends_the_agent_with_its_code() -> None:
    script = ready()
    script.hear(wire.Refused(code="endpoint.bad_proof", detail="retired", final=True))
    assert script.made(commands.Finish) == [
        commands.Finish(code="endpoint.bad_proof", detail="retired")
    ]
    assert script.core.link.state is State.STOPPED
    assert script.wait(DAY_S) == []


def test_retry_after_is_kept_with_full_jitter_on_top() -> None:
    pauses = []
    for seed in range(200):
        script = ready(seed=seed)
        script.hear(wire.Refused(code="server.busy", retry_after_s=20))
        refused_at = script.now
        script.wait_for(commands.Connect)
        pauses.append(script.now - refused_at)
    assert 20 <= min(pauses) < 22
    assert 38 < max(pauses) < 40


def test_retry_after_of_an_http_answer_is_kept_too() -> None:
    script = Script()
    script.give(events.Begin())
    script.wait_for(commands.Connect)
    script.give(events.LinkLost(link_no=1, why="HTTP 503", retry_after_s=30))
    lost_at = script.now
    script.wait_for(commands.Connect)
    assert 30 <= script.now - lost_at <= 60


@pytest.mark.parametrize("asked", [0.0, -5.0, 1e300])
def test_an_impossible_retry_after_makes_neither_a_storm_nor_an_end(asked: float) -> None:
    script = ready()
    script.hear(wire.Refused(code="server.busy", retry_after_s=asked))
    refused_at = script.now
    script.wait_for(commands.Connect)
    assert 1 <= script.now - refused_at <= 2 * limits.RETRY_AFTER_S_MAX


def test_the_very_first_retry_is_spread_over_the_whole_width() -> None:
    pauses = []
    for seed in range(300):
        script = ready(seed=seed)
        script.lose()
        lost_at = script.now
        script.wait_for(commands.Connect)
        pauses.append(script.now - lost_at)
    width = limits.BACKOFF_FIRST_S
    tenths = {int(pause / width * 10) for pause in pauses}
    assert tenths == set(range(10))


def test_pauses_are_as_wide_as_the_trouble_has_lasted_up_to_the_cap() -> None:
    for lasted in (0.0, 3.0, 20.0, 60.0, 1000.0, 1e6):
        widest = 0.0
        for seed in range(300):
            backoff = Backoff(Chance(key_of("backoff", seed)))
            backoff.pause_s(100.0)
            widest = max(widest, backoff.pause_s(100.0 + lasted))
        expected = min(max(lasted, limits.BACKOFF_FIRST_S), limits.BACKOFF_CAP_S)
        assert widest == pytest.approx(expected, rel=0.05)


def test_a_link_that_held_ends_the_trouble_and_a_short_one_does_not() -> None:
    backoff = Backoff(Chance(key_of("x")))
    backoff.pause_s(0.0)
    backoff.held(limits.BACKOFF_RESET_S - 1)
    assert max(backoff.pause_s(1000.0) for _ in range(50)) > limits.BACKOFF_FIRST_S
    backoff.held(limits.BACKOFF_RESET_S)
    assert max(backoff.pause_s(2000.0) for _ in range(50)) <= limits.BACKOFF_FIRST_S


def test_after_a_short_outage_everybody_is_back_soon_and_not_all_at_once() -> None:
    """2,000 endpoints, a broker that is away for three seconds."""
    back_at = []
    for seed in range(2000):
        script = ready(seed=seed)
        script.lose()
        lost_at = script.now
        while True:
            script.wait_for(commands.Connect)
            if script.now - lost_at >= 3:
                break
            script.give(events.LinkLost(link_no=script.link_no, why="refused"))
        back_at.append(script.now - lost_at - 3)
    assert max(back_at) <= limits.BACKOFF_FIRST_S
    per_second = [sum(second <= at < second + 1 for at in back_at) for second in range(5)]
    assert max(per_second) <= 3 * len(back_at) / 5


Treatment: TypeAlias = Callable[[Script], None]


def _refuse_connection(script: Script) -> None:
    script.give(events.LinkLost(link_no=script.link_no, why="refused"))


def _swallow(script: Script) -> None:
    script.now += limits.CONNECT_S
    script.give(events.LinkLost(link_no=script.link_no, why="timeout"))


def _garble(script: Script) -> None:
    script.give(events.LinkOpened(link_no=script.link_no))
    script.give(events.LinkText(link_no=script.link_no, data=b"?"))


def _refuse(script: Script) -> None:
    script.give(events.LinkOpened(link_no=script.link_no))
    script.hear(wire.Refused(code="server.unavailable"))


def _welcome_and_drop(script: Script) -> None:
    script.welcome()
    script.lose()


def _hang(script: Script) -> None:
    script.give(events.LinkOpened(link_no=script.link_no))
    script.wait(limits.HANDSHAKE_S)


@pytest.mark.parametrize(
    "treat", [_refuse_connection, _swallow, _garble, _refuse, _welcome_and_drop, _hang]
)
def test_in_24_hours_of_trouble_it_never_stops_and_asks_every_30_s_at_most(
    treat: Treatment,
) -> None:
    script = Script(seed=7)
    script.give(events.Begin())
    tries = 0
    began_at = script.now
    while script.now - began_at < DAY_S:
        script.wait_for(commands.Connect, limit_s=limits.BACKOFF_CAP_S + limits.HANDSHAKE_S)
        tries += 1
        treat(script)
    assert not any(isinstance(one, commands.Finish) for one in script.log)
    assert 30 <= DAY_S / tries <= limits.BACKOFF_CAP_S


@given(
    st.lists(
        st.sampled_from([_refuse_connection, _swallow, _garble, _refuse, _welcome_and_drop, _hang]),
        max_size=40,
    ),
    st.integers(0, 1000),
)
def test_after_any_row_of_troubles_the_next_try_comes_within_the_cap(
    treatments: list[Treatment], seed: int
) -> None:
    script = Script(seed=seed)
    script.give(events.Begin())
    for treat in treatments:
        script.wait_for(commands.Connect, limit_s=limits.BACKOFF_CAP_S)
        treat(script)
    script.wait_for(commands.Connect, limit_s=limits.BACKOFF_CAP_S)
    script.welcome()
    assert script.core.link.is_up


# ----------------------------------------------------------------------------- end


def test_being_stopped_says_bye_and_makes_no_more_tries() -> None:
    script = ready()
    script.give(events.StopAsked())
    assert script.said(wire.Bye)
    kinds = [type(one) for one in script.last]
    assert kinds.index(commands.Send) < kinds.index(commands.CloseLink)
    assert script.made(commands.Finish) == [commands.Finish()]
    assert script.give(events.LinkLost(link_no=script.link_no, why="closed")) == []
    assert script.wait(DAY_S) == []
    assert script.give(events.StopAsked()) == []


@pytest.mark.parametrize("enrolled", [True, False])
def test_being_stopped_while_it_is_trying_ends_it_too(enrolled: bool) -> None:
    script = Script(endpoint(enrolled=enrolled))
    script.give(events.Begin())
    script.wait_for(commands.Connect if enrolled else commands.Enrol)
    script.give(events.StopAsked())
    assert script.made(commands.Finish)
    assert script.give(events.LinkOpened(link_no=1)) == []
    assert script.give(events.EnrolRefused(code="x")) == []


def test_an_identity_does_not_show_its_key() -> None:
    assert identity().private_key.hex() not in repr(identity())
    assert str(identity().private_key) not in repr(identity())
