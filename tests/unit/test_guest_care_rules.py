"""What a session owes to the agent in its desktop at a moment."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from broker.domain.guest_care import Care, Owed, Tended, is_logged_off_first, owed, policy_of
from broker.domain.model import LogOff, Notice, PoolKind, SessionState
from broker.domain.settings import Channels, Clipboard, PoolSettings
from broker.limits import NOTICE_AGAIN_S
from tests.support.builders import NOW, make_pool, make_session

POLICY = {"clipboard": "off", "user": "ann"}
KEPT = make_pool(kind=PoolKind.DEDICATED, log_off=LogOff.KEEP)
LIVE = make_session(state=SessionState.ACTIVE, live_at=NOW)


def asked(session: Any, tended: Tended, *, pool: Any = KEPT, logs_off: bool = True) -> Owed | None:
    return owed(session, pool, tended, POLICY, now=NOW, logs_off=logs_off)


def done() -> Tended:
    """The policy is laid down."""
    return Tended(policy=dict(POLICY))


def test_a_policy_is_laid_down_once_and_again_when_it_changes() -> None:
    first = asked(LIVE, Tended())
    assert first is not None
    assert first.care is Care.POLICY
    assert asked(replace(LIVE, state=SessionState.DELIVERING), Tended()) == first
    assert asked(LIVE, done()) is None
    changed = owed(LIVE, KEPT, done(), POLICY | {"usb": "on"}, now=NOW, logs_off=True)
    assert changed is not None
    assert changed.key != first.key
    assert asked(LIVE, Tended(settled={first.key})) is None, "given up"


def test_a_message_is_shown_while_it_is_news_and_somebody_is_there() -> None:
    told = replace(LIVE, notice=Notice(id="ntc_1", at=NOW, sender="oliver", text="back at noon"))
    assert asked(told, done()) == Owed(care=Care.MESSAGE, key="message-ntc_1")
    old = NOW - NOTICE_AGAIN_S * 1000
    assert told.notice is not None
    assert asked(replace(told, notice=replace(told.notice, at=old)), done()) is None
    assert asked(replace(told, notice=replace(told.notice, at=old + 1)), done()) is not None
    assert asked(replace(told, state=SessionState.DELIVERING), done()) is None


def test_a_desktop_whose_person_is_away_is_locked_where_the_pool_says_so() -> None:
    away = replace(LIVE, state=SessionState.DISCONNECTED, deadline_at=NOW + 5)
    locks = replace(KEPT, settings=PoolSettings(lock_on_disconnect=True))
    first = asked(away, Tended(), pool=locks)
    assert first == Owed(care=Care.LOCK, key=f"lock-ses_1-{NOW + 5}")
    again = asked(replace(away, deadline_at=NOW + 9), Tended(settled={first.key}), pool=locks)
    assert again is not None, "he left a second time"
    never = replace(KEPT, settings=PoolSettings(lock_on_disconnect=False))
    assert asked(away, Tended(), pool=never) is None
    assert asked(replace(away, live_at=None), Tended(), pool=locks) is None


def test_who_is_logged_off_is_logged_off_in_the_desktop_first_where_it_is_kept() -> None:
    ending = replace(LIVE, state=SessionState.ENDING)
    assert asked(ending, Tended()) == Owed(care=Care.LOG_OFF, key="off-ses_1")
    assert asked(ending, Tended(), logs_off=False) is None
    assert asked(ending, Tended(settled={"off-ses_1"})) is None
    assert is_logged_off_first(KEPT, "usr_1")
    assert not is_logged_off_first(KEPT, None)
    assert not is_logged_off_first(make_pool(), "usr_1")


@pytest.mark.parametrize("state", [SessionState.QUEUED, SessionState.ENDED, SessionState.FAILED])
def test_a_session_without_a_desktop_owes_nothing(state: SessionState) -> None:
    assert asked(replace(LIVE, state=state), Tended()) is None


def test_what_is_known_of_an_agent_holds_for_one_boot_of_one_session() -> None:
    tended = Tended(session_id=LIVE.id, generation=LIVE.generation, boot="b1")
    assert tended.is_of(LIVE, "b1")
    assert not tended.is_of(LIVE, "b2")
    assert not tended.is_of(replace(LIVE, generation=9), "b1")
    assert not tended.is_of(replace(LIVE, id="ses_2"), "b1")


def test_channels_are_told_to_the_agent_in_its_words() -> None:
    said = policy_of(Channels(usb=True, printing=False, clipboard=Clipboard.BOTH), "ann")
    assert (said["usb"], said["printing"]) == ("on", "off")
    assert said["clipboard"] == Clipboard.BOTH.value
    assert "ann" in said.values()
