"""Orders that come twice, late or mixed up; the endpoint's own desktops; several sessions."""

from __future__ import annotations

import pytest

from agents import limits
from agents.core import commands, events
from agents.core.endpoint import Endpoint
from broker import wire
from tests.support.agent_script import Script, grant, ready, start, stop


def live(script: Script, **order: object) -> None:
    """Bring up an IDV session whose cache is warm."""
    script.hear(start("idv", **order))  # type: ignore[arg-type]
    session_id = str(order.get("session_id", "ses_1"))
    script.hear(grant("idv", session_id=session_id))
    check = script.made(commands.CheckImage)[0]
    script.give(events.ImageChecked(session_id=session_id, ref=check.ref, missing=()))
    script.wait(60)


def carried(core: Endpoint) -> list[tuple[str, int]]:
    return [(session.id, session.generation) for session in core.sessions]


def fresh(generation: int, desktop_id: str = "dsk_1") -> wire.MakeFresh:
    return wire.MakeFresh(desktop_id=desktop_id, generation=generation)


# ----------------------------------------------------------------------- sessions


def test_the_same_order_again_changes_nothing() -> None:
    script = ready()
    script.hear(start("idv"))
    assert script.hear(start("idv")) == []
    assert carried(script.core) == [("ses_1", 1)]


def test_an_older_generation_is_ignored_and_a_newer_one_replaces() -> None:
    script = ready()
    live(script, generation=5)
    assert script.hear(start("idv", generation=4, ticket="t4")) == []
    script.hear(start("idv", generation=6, ticket="t6"))
    assert carried(script.core) == [("ses_1", 6)]
    assert script.said(wire.Redeem)[0].ticket == "t6"


def test_an_older_generation_is_ignored_whatever_desktop_it_names() -> None:
    script = ready()
    live(script, generation=5)
    assert script.hear(start("idv", generation=4, ticket="t4", desktop_id="dsk_2")) == []
    assert carried(script.core) == [("ses_1", 5)]


def test_a_session_begun_anew_is_not_hurried_by_the_deadlines_of_the_one_before() -> None:
    script = ready()
    live(script)
    script.hear(stop())
    script.hear(start("idv", ticket="t2"))
    script.hear(grant("idv"))
    check = script.made(commands.CheckImage)[0]
    script.give(events.ImageChecked(session_id="ses_1", ref=check.ref, missing=()))
    script.wait(10)  # it boots for 15 s at least
    script.hear(stop())
    script.hear(start("idv", ticket="t3"))
    script.wait(limits.GRANT_S - 1)
    assert not [one for one in script.core.sessions if one.is_live]


def test_a_stop_of_an_older_generation_is_ignored() -> None:
    script = ready()
    live(script, generation=5)
    assert script.hear(stop(generation=4)) == []
    assert carried(script.core) == [("ses_1", 5)]


def test_a_stop_is_answered_at_once_and_again_and_counts_traffic_once() -> None:
    script = ready()
    live(script)
    script.hear(stop())
    first = script.said(wire.Ended)[0]
    script.hear(stop())
    second = script.said(wire.Ended)[0]
    assert first.traffic is not None
    assert first.traffic.control > 0
    assert second == wire.Ended(session_id="ses_1", generation=1)


def test_a_stop_of_a_session_that_never_was_here_is_answered() -> None:
    script = ready()
    script.hear(stop("ses_9", 3))
    assert script.said(wire.Ended) == [wire.Ended(session_id="ses_9", generation=3)]


def test_a_late_copy_of_the_order_does_not_wake_a_session_that_was_stopped() -> None:
    script = ready()
    live(script)
    script.hear(stop())
    script.hear(start("idv"))
    assert script.said(wire.Ended) == [wire.Ended(session_id="ses_1", generation=1)]
    assert carried(script.core) == []


def test_a_late_copy_of_the_order_for_a_failed_session_is_answered_with_the_failure() -> None:
    script = ready()
    script.hear(start("idv"))
    script.wait(limits.GRANT_S)
    script.hear(start("idv"))
    assert script.said(wire.Failed)[0].code == "grant.timeout"
    script.hear(start("idv", ticket="another"))
    assert script.said(wire.Redeem)


def test_what_is_over_is_remembered_for_a_few_sessions_only() -> None:
    script = ready()
    for number in range(3 * limits.MEMORY_MAX):
        script.hear(start("idv", session_id=f"ses_{number}"))
        script.hear(stop(f"ses_{number}"))
    assert len(script.core._memory or ()) == limits.MEMORY_MAX


def test_another_session_of_the_same_desktop_takes_its_place() -> None:
    script = ready()
    live(script)
    script.hear(start("idv", session_id="ses_2", generation=2))
    assert script.said(wire.Ended)[0].session_id == "ses_1"
    assert carried(script.core) == [("ses_2", 2)]
    assert script.hear(start("idv", session_id="ses_3", generation=1)) == []


def test_one_endpoint_carries_sessions_of_several_desktops_and_architectures() -> None:
    script = ready()
    live(script)
    script.hear(start("voi", session_id="ses_2", desktop_id="dsk_2"))
    assert {session.architecture for session in script.core.sessions} == {"idv", "voi"}
    script.hear(wire.Pace(heartbeat_s=1))
    script.wait(1)
    beat = script.told(wire.Heartbeat)[-1]
    assert {one.session_id for one in beat.sessions} == {"ses_1", "ses_2"}


def test_more_sessions_than_it_carries_are_refused() -> None:
    script = ready()
    for number in range(limits.CONTROL_SESSIONS_MAX + 1):
        order = start("voi", session_id=f"ses_{number}", desktop_id=f"dsk_{number}")
        script.hear(order)
    assert [one.code for one in script.said(wire.Failed)] == ["endpoint.busy"]
    assert len(script.core.sessions) == limits.CONTROL_SESSIONS_MAX


@pytest.mark.parametrize(
    ("kind", "architecture"),
    [("thin", "idv"), ("thin", "voi"), ("fat", "vdi"), ("fat", "holographic"), ("fat", "")],
)
def test_an_architecture_that_is_not_for_this_endpoint_is_refused(
    kind: str, architecture: str
) -> None:
    script = ready(kind)
    script.hear(start(architecture))
    assert [one.code for one in script.said(wire.Failed)] == ["endpoint.architecture"]
    assert carried(script.core) == []


def test_a_grant_for_nobody_is_ignored() -> None:
    script = ready()
    assert script.hear(grant("idv", session_id="ses_unknown")) == []


def test_ids_that_look_alike_do_not_touch_each_others_deadlines() -> None:
    """Ids are the broker's business: a session may be called like a desktop, or like nothing."""
    script = ready()
    script.hear(fresh(2, desktop_id="same"))
    live(script, session_id="", desktop_id="other")
    script.hear(start("voi", session_id="same", desktop_id="third"))
    script.hear(stop("same"))
    script.hear(stop(""))
    script.wait(60)
    assert wire.Fresh(desktop_id="same", generation=2) in script.told(wire.Fresh)
    assert script.core.link.is_up


# ----------------------------------------------------------------------- desktops


def test_a_desktop_is_made_fresh_after_a_while_and_says_so() -> None:
    script = ready()
    asked_at = script.now
    script.hear(fresh(2))
    assert not script.said(wire.Fresh)
    while not script.told(wire.Fresh):
        script.now = script.core.due
        script.give(events.TimePassed())
    assert 2 <= script.now - asked_at <= 3
    assert script.said(wire.Fresh) == [wire.Fresh(desktop_id="dsk_1", generation=2)]


def test_a_desktop_that_is_fresh_already_says_so_at_once() -> None:
    script = ready()
    script.hear(fresh(2))
    script.wait(5)
    script.hear(fresh(2))
    assert script.said(wire.Fresh) == [wire.Fresh(desktop_id="dsk_1", generation=2)]
    assert script.hear(fresh(1)) == []


def test_the_same_reset_again_carries_on_and_a_newer_one_takes_over() -> None:
    script = ready()
    script.hear(fresh(2))
    due = script.core.due
    script.hear(fresh(2))
    assert script.core.due == due
    script.hear(fresh(3))
    script.hear(fresh(2))
    script.wait(10)
    assert [one.generation for one in script.told(wire.Fresh)] == [3]


def test_a_reset_without_the_link_is_told_at_the_next_one() -> None:
    script = ready()
    script.hear(fresh(2))
    script.lose()
    script.wait(10)
    assert not script.told(wire.Fresh)
    script.connect()
    assert script.said(wire.Fresh) == [wire.Fresh(desktop_id="dsk_1", generation=2)]


def test_making_it_fresh_ends_what_still_ran_there() -> None:
    script = ready()
    live(script)
    script.hear(fresh(2))
    assert script.said(wire.Ended)[0].session_id == "ses_1"
    script.wait(5)
    assert script.told(wire.Fresh)


def test_a_late_reset_does_not_end_the_session_of_its_own_generation() -> None:
    script = ready()
    live(script, generation=2)
    assert script.hear(fresh(2)) == []
    assert carried(script.core) == [("ses_1", 2)]


def test_an_order_for_a_desktop_under_reset_waits_for_it() -> None:
    script = ready()
    script.hear(fresh(2))
    script.hear(start("idv", generation=2))
    assert not script.said(wire.Redeem)
    script.wait(5)
    assert script.told(wire.Redeem)
    assert script.told(wire.Fresh)


def test_an_order_that_waits_for_a_reset_can_be_stopped() -> None:
    script = ready()
    script.hear(fresh(2))
    script.hear(start("idv", generation=2))
    script.hear(stop(generation=2))
    assert script.said(wire.Ended)
    script.wait(5)
    assert not script.told(wire.Redeem)


def test_an_order_older_than_its_desktop_is_ignored() -> None:
    script = ready()
    script.hear(fresh(3))
    script.wait(5)
    assert script.hear(start("idv", generation=2)) == []


def test_a_few_desktops_are_remembered_and_resets_under_way_always() -> None:
    script = ready()
    for number in range(3 * limits.DESKTOPS_MAX):
        script.hear(fresh(2, desktop_id=f"dsk_{number}"))
    script.wait(5)
    told = {one.desktop_id for one in script.told(wire.Fresh)}
    assert len(told) == 3 * limits.DESKTOPS_MAX
    script.hear(fresh(2, desktop_id="one_more"))
    assert len(script.core._own_desktops()._by_id) <= limits.DESKTOPS_MAX


# -------------------------------------------------------------- while the link is down


def test_reports_made_without_the_link_are_told_first_at_the_next_and_not_twice() -> None:
    script = ready()
    script.hear(start("idv"))
    script.hear(grant("idv"))
    check = script.made(commands.CheckImage)[0]
    script.lose()
    script.give(events.ImageChecked(session_id="ses_1", ref=check.ref, missing=()))
    assert script.phases() == ["lease"]
    script.connect()
    assert script.phases() == ["lease", "image_check", "image_fetch"]
    script.lose()
    script.wait(1)
    script.connect()
    assert script.phases().count("image_check") == 1


def test_what_is_kept_for_the_next_link_is_bounded() -> None:
    script = ready()
    for number in range(2 * limits.OUTBOX_MAX):
        script.hear(fresh(2, desktop_id=f"dsk_{number}"))
    script.lose()
    script.wait(4)
    script.connect()
    assert len(script.told(wire.Fresh)) <= limits.OUTBOX_MAX


def test_a_stopped_agent_lets_go_of_its_sessions() -> None:
    script = ready()
    live(script)
    script.hear(start("voi", session_id="ses_2", desktop_id="dsk_2"))
    script.hear(grant("voi", session_id="ses_2"))
    script.give(events.StopAsked())
    assert script.made(commands.StopFetches)
    assert carried(script.core) == []
    assert script.core.due == float("inf")
