"""VDI at a thin endpoint: display, first frame, log-on, input, loss and return."""

from __future__ import annotations

import pytest

from agents import limits
from agents.chance import Chance, key_of
from agents.core import commands, events
from agents.core.display_input import input_message
from broker import wire
from broker.engines.simulated.frames import input_events
from tests.support.agent_script import Script, ready, start, stop


def opened(script: Script) -> commands.OpenDisplay:
    return script.made(commands.OpenDisplay)[0]


def ordered(**order: object) -> tuple[Script, commands.OpenDisplay]:
    script = ready("thin")
    script.hear(start("vdi", **order))  # type: ignore[arg-type]
    return script, opened(script)


def show(script: Script, display: commands.OpenDisplay) -> None:
    """DisplayReady, then the first frame."""
    message = wire.DisplayReady(session_id=display.session_id, width=800, height=600)
    ready_text = wire.encode(message)
    script.give(events.DisplayText(session_id=display.session_id, ref=display.ref, data=ready_text))
    frame(script, display)


def frame(script: Script, display: commands.OpenDisplay, size: int = 5000) -> None:
    script.give(events.DisplayFrame(session_id=display.session_id, ref=display.ref, size=size))


def lose(script: Script, display: commands.OpenDisplay) -> None:
    script.give(events.DisplayLost(session_id=display.session_id, ref=display.ref, why="cut"))


def live() -> tuple[Script, commands.OpenDisplay]:
    script, display = ordered()
    show(script, display)
    script.wait(6)
    assert script.told(wire.Live)
    return script, display


def test_a_session_goes_through_its_phases_to_live() -> None:
    script, display = ordered()
    assert display.ticket == "ticket-1"
    script.now += 0.25
    show(script, display)
    script.wait(6)
    reports = script.told(wire.Report)
    assert [report.phase for report in reports] == ["display_open", "first_frame", "logon"]
    assert reports[0].took_ms == 250
    assert reports[1].bytes_down == 5000
    assert 5100 <= reports[2].took_ms <= 5500
    assert script.told(wire.Live) == [wire.Live(session_id="ses_1", generation=1)]


def test_input_follows_at_a_persons_pace_and_is_counted() -> None:
    script, display = live()
    script.hear(wire.Pace(heartbeat_s=1000))
    made = script.wait(400)
    sent = [one for one in made if isinstance(one, commands.SendDisplay)]
    assert 250 < len(sent) < 600
    frame(script, display, 700)
    script.hear(stop())
    told = [one for beat in script.told(wire.Heartbeat) for one in beat.sessions]
    last = script.said(wire.Ended)[0].traffic
    assert last is not None
    display_bytes = sum(one.display for one in [*told, last])
    ready_bytes = len(wire.encode(wire.DisplayReady(session_id="ses_1", width=800, height=600)))
    assert display_bytes == 5000 + 700 + ready_bytes + sum(len(one.data) for one in sent)
    assert last.image == 0
    assert last.control > 0


@pytest.mark.parametrize("seed", range(50))
def test_input_is_what_the_simulated_desktop_understands(seed: int) -> None:
    data = input_message(Chance(key_of(seed)), 1920, 1080)
    understood = list(input_events(data))
    assert understood
    assert len(understood) * 9 == len(data) < 100
    assert all(event.x < 1920 and event.y < 1080 for event in understood)


def test_a_refused_ticket_fails_the_session_with_the_brokers_code() -> None:
    script, display = ordered()
    data = wire.encode(wire.DisplayRefused(code="ticket.refused", detail="too old"))
    script.give(events.DisplayText(session_id="ses_1", ref=display.ref, data=data))
    assert script.said(wire.Failed)[0].code == "ticket.refused"
    assert script.made(commands.CloseDisplay)


@pytest.mark.parametrize("ready_first", [True, False])
def test_a_display_that_does_not_come_fails_in_time(ready_first: bool) -> None:
    script, display = ordered()
    if ready_first:
        data = wire.encode(wire.DisplayReady(session_id="ses_1", width=8, height=6))
        script.give(events.DisplayText(session_id="ses_1", ref=display.ref, data=data))
    script.wait(max(limits.DISPLAY_OPEN_S, limits.FIRST_FRAME_S))
    assert script.said(wire.Failed)[0].code == "display.timeout"


@pytest.mark.parametrize(
    "data",
    [
        b"?",
        b"{}",
        wire.encode(wire.DisplayReady(session_id="ses_other", width=8, height=6)),
    ],
)
def test_a_display_outside_the_protocol_is_closed(data: bytes) -> None:
    script, display = ordered()
    script.give(events.DisplayText(session_id="ses_1", ref=display.ref, data=data))
    assert script.made(commands.CloseDisplay)
    script.wait(limits.REORDER_S)
    assert script.told(wire.Failed)[0].code == "display.lost"


def test_a_frame_before_the_display_is_ready_is_outside_the_protocol() -> None:
    script, display = ordered()
    frame(script, display)
    assert script.made(commands.CloseDisplay)


def test_a_display_lost_before_it_was_in_use_fails_unless_another_ticket_comes() -> None:
    script, display = ordered()
    lose(script, display)
    assert not script.said(wire.Failed)
    script.hear(start("vdi", ticket="ticket-2"))
    again = opened(script)
    assert again.ticket == "ticket-2"
    assert again.ref != display.ref
    show(script, again)
    script.wait(6)
    assert script.told(wire.Live)

    script, display = ordered()
    lose(script, display)
    script.wait(limits.REORDER_S)
    assert script.said(wire.Failed)[0].code == "display.lost"


def test_a_session_in_use_outlives_its_display_and_needs_no_second_log_on() -> None:
    script, display = live()
    lose(script, display)
    assert commands.Note(what="away", architecture="vdi") in script.last
    script.hear(wire.Pace(heartbeat_s=1))
    script.wait(limits.REORDER_S - 1)
    assert script.told(wire.Heartbeat)[-1].sessions == ()

    script.hear(start("vdi", ticket="ticket-2"))
    show(script, opened(script))
    assert script.said(wire.Live)
    assert script.phases()[3:] == ["display_open", "first_frame"]
    assert not script.told(wire.Failed)


def test_without_another_ticket_the_endpoint_connects_anew_to_get_one() -> None:
    script, display = live()
    lose(script, display)
    closed = script.wait_for(commands.CloseLink)
    assert closed.why == "a display was lost"
    script.connect()
    assert not script.said(wire.Live)
    script.hear(start("vdi", ticket="ticket-2"))
    show(script, opened(script))
    assert script.said(wire.Live)


def test_a_session_that_nobody_orders_here_any_more_is_forgotten_without_a_word() -> None:
    script, display = live()
    lose(script, display)
    script.wait_for(commands.CloseLink)
    script.connect()
    told = len(script.told(wire.Failed)) + len(script.told(wire.Ended))
    made = script.wait(3600)
    assert not script.core.sessions
    assert told == len(script.told(wire.Failed)) + len(script.told(wire.Ended)) == 0
    assert not any(isinstance(one, commands.CloseLink) for one in made)


def test_displays_that_are_lost_again_and_again_do_not_make_a_storm() -> None:
    script, display = live()
    began_at, times = script.now, 0
    while script.now - began_at < 3600:
        lose(script, display)
        script.wait_for(commands.CloseLink)
        script.connect()
        times += 1
        script.hear(start("vdi", ticket=f"ticket-{times + 1}"))
        display = opened(script)
        show(script, display)
    assert times < 3600 / 30


def test_a_repeated_order_with_a_used_ticket_does_not_open_a_second_display() -> None:
    script, display = ordered()
    script.hear(start("vdi"))
    assert not script.made(commands.OpenDisplay)
    lose(script, display)
    script.hear(start("vdi"))
    assert not script.made(commands.OpenDisplay)


def test_a_repeated_order_for_a_live_session_is_answered_at_once() -> None:
    script, _ = live()
    script.hear(start("vdi", ticket="ticket-2"))
    assert script.said(wire.Live)
    assert not script.made(commands.OpenDisplay)


def test_a_live_session_whose_display_held_is_live_again_at_the_next_link() -> None:
    script, _ = live()
    script.lose()
    script.wait(1)
    script.connect()
    assert script.said(wire.Live)


def test_display_and_link_lost_together_wait_for_the_next_link() -> None:
    script, display = ordered()
    script.lose()
    lose(script, display)
    script.wait(200)
    assert not script.told(wire.Failed)
    script.connect()
    script.hear(start("vdi", ticket="ticket-2"))
    show(script, opened(script))
    script.wait(6)
    assert script.told(wire.Live)


def test_late_events_of_a_closed_display_change_nothing() -> None:
    script, display = live()
    script.hear(stop())
    assert script.made(commands.CloseDisplay)
    frame(script, display)
    assert script.last == []
    lose(script, display)
    assert script.last == []


def test_coming_back_to_a_thin_endpoint_after_a_stop_opens_the_display_anew() -> None:
    """A disconnect stops the session here; the same one may be given back to this endpoint."""
    script, _ = live()
    script.hear(stop())
    script.hear(start("vdi", ticket="ticket-2"))
    assert opened(script).ticket == "ticket-2"
