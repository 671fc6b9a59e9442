"""What the person at an endpoint is told and asked, and a session that moves away from it."""

from __future__ import annotations

import pytest

from agents import limits
from agents.chance import key_of
from agents.core import commands, events
from agents.model import Figures, Model
from broker import wire
from tests.support.agent_script import Script, endpoint, grant, ready, start


def with_model(model: Model, kind: str = "thin") -> Script:
    script = Script(endpoint(kind, model=model))
    script.connect()
    return script


def notice(notice_id: str = "ntc_1", session_id: str = "ses_1") -> wire.Notice:
    return wire.Notice(session_id=session_id, notice_id=notice_id, text="hello", sender="op")


def question(wish_id: str = "wsh_1", within_s: float = 60.0) -> wire.AskConsent:
    return wire.AskConsent(
        session_id="ses_1", wish_id=wish_id, endpoint="LAB-2", answer_within_s=within_s
    )


def shown(script: Script) -> commands.OpenDisplay:
    """Open a thin session's display and let its person log on."""
    display = script.made(commands.OpenDisplay)[0]
    text = wire.encode(wire.DisplayReady(session_id=display.session_id, width=8, height=6))
    script.give(events.DisplayText(session_id=display.session_id, ref=display.ref, data=text))
    script.give(events.DisplayFrame(session_id=display.session_id, ref=display.ref, size=10))
    script.wait(6)
    return display


def moved(generation: int = 1) -> wire.Stop:
    return wire.Stop(session_id="ses_1", generation=generation, reason="moved", moved=True)


def test_a_message_is_shown_once_however_often_it_is_sent() -> None:
    script = ready("thin")
    script.hear(start("vdi"))
    script.hear(notice())
    [show] = script.made(commands.Show)
    assert (show.text, show.sender, show.session_id) == ("hello", "op", "ses_1")
    assert script.hear(notice()) == []
    script.hear(notice("ntc_2"))
    assert len(script.made(commands.Show)) == 1


def test_a_message_for_a_session_that_is_not_here_is_not_shown() -> None:
    script = ready("thin")
    assert script.hear(notice()) == []
    script.hear(start("vdi"))
    script.hear(notice())
    assert script.made(commands.Show)


@pytest.mark.parametrize(("share", "granted"), [(0.0, False), (1.0, True)])
def test_the_simulated_person_answers_within_the_time(share: float, granted: bool) -> None:
    script = with_model(Model(figures=Figures(consent_share=share)))
    script.hear(start("vdi"))
    shown(script)
    script.hear(question(within_s=10))
    assert script.made(commands.Ask)[0].endpoint == "LAB-2"
    script.hear(question(within_s=10))
    script.wait(5.1)
    [answer] = script.told(wire.Consent)
    assert (answer.wish_id, answer.granted) == ("wsh_1", granted)


def test_the_simulated_answers_follow_the_share_and_replay() -> None:
    model = Model(figures=Figures(consent_share=0.8))
    answers = [model.agrees(key_of(7, "desk"), f"wsh_{n}") for n in range(400)]
    assert answers == [model.agrees(key_of(7, "desk"), f"wsh_{n}") for n in range(400)]
    assert 280 < sum(bool(one) for one in answers) < 360


def test_for_somebody_who_is_not_simulated_nobody_says_yes() -> None:
    script = with_model(Model(figures=Figures(consent_share=1.0), answers=False))
    script.hear(start("vdi"))
    shown(script)
    script.hear(question(within_s=20))
    script.wait(19)
    assert not script.told(wire.Consent)
    script.wait(2)
    [answer] = script.told(wire.Consent)
    assert not answer.granted


def test_a_question_about_a_session_that_is_over_by_then_gets_no_answer() -> None:
    script = with_model(Model(answers=False))
    script.hear(start("vdi"))
    script.hear(question(within_s=20))
    script.hear(moved())
    script.wait(60)
    assert not script.told(wire.Consent)


def test_questions_are_bounded() -> None:
    script = with_model(Model(answers=False))
    script.hear(start("vdi"))
    shown(script)
    for n in range(limits.QUESTIONS_MAX + 3):
        script.hear(question(f"wsh_{n}", within_s=1e9))
    script.wait(limits.CONSENT_S_MAX + 1)
    assert len(script.told(wire.Consent)) == limits.QUESTIONS_MAX


def test_a_session_that_moved_away_is_let_go_without_a_word_and_may_come_back() -> None:
    script = ready("thin")
    script.hear(start("vdi"))
    shown(script)
    before = len(script.messages(script.log))
    script.hear(moved())
    assert script.made(commands.CloseDisplay)
    assert len(script.messages(script.log)) == before
    assert script.core.sessions == ()
    script.hear(moved())
    assert script.hear(wire.Stop(session_id="ses_2", generation=1, reason="x", moved=True)) == []
    script.hear(start("vdi", ticket="ticket-2"))
    assert script.made(commands.OpenDisplay)[0].ticket == "ticket-2"
    assert not script.told(wire.Ended)


def test_heartbeats_say_how_long_the_person_has_been_idle() -> None:
    script = with_model(Model(figures=Figures(input_pause_s=3000.0)))
    script.hear(wire.Pace(heartbeat_s=30))
    script.hear(start("vdi"))
    shown(script)
    script.wait(100)
    beats = [one.sessions[0].idle_s for one in script.told(wire.Heartbeat) if one.sessions]
    idle = [one for one in beats if one is not None]
    assert len(idle) >= 2
    assert idle == sorted(idle)
    assert idle[-1] > 60


def test_an_endpoint_with_its_own_desktop_says_it_once_the_person_has_it() -> None:
    script = ready()
    script.hear(wire.Pace(heartbeat_s=10))
    script.hear(start("idv"))
    script.wait(11)
    assert {one.sessions[0].idle_s for one in script.told(wire.Heartbeat)} == {None}
    script.hear(grant("idv"))
    check = script.made(commands.CheckImage)[0]
    script.give(events.ImageChecked(session_id="ses_1", ref=check.ref, missing=()))
    script.wait(100)
    last = script.told(wire.Heartbeat)[-1].sessions[0].idle_s
    assert last is not None
    assert 0 < last < 60


def test_a_display_refused_because_the_desktop_is_resumed_waits_for_another_order() -> None:
    script = ready("thin")
    script.hear(start("vdi"))
    display = script.made(commands.OpenDisplay)[0]
    refused = wire.encode(wire.DisplayRefused(code="desktop.resuming", detail="soon"))
    script.give(events.DisplayText(session_id="ses_1", ref=display.ref, data=refused))
    script.wait(limits.REORDER_S + 30)
    assert not script.told(wire.Failed)
    script.hear(start("vdi", ticket="ticket-2"))
    assert script.made(commands.OpenDisplay)[0].ticket == "ticket-2"
