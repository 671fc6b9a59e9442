"""IDV at a fat endpoint: lease, image check, fetch, local boot, life without the broker."""

from __future__ import annotations

import pytest

from agents import limits
from agents.core import commands, events
from broker import wire
from tests.support.agent_script import SERVER_MS, Script, grant, image, ready, start, stop

HOUR_S = 3600.0


def granted(*, missing: tuple[int, ...] = tuple(range(8)), **more: object) -> Script:
    """A session whose image was checked; the first fetches are asked for."""
    script = ready()
    script.hear(start("idv"))
    script.hear(grant("idv", **more))  # type: ignore[arg-type]
    check = script.made(commands.CheckImage)[0]
    script.give(events.ImageChecked(session_id="ses_1", ref=check.ref, missing=missing))
    return script


def live(**more: object) -> Script:
    script = granted(missing=(), **more)
    script.wait(60)
    assert script.told(wire.Live)
    return script


def test_a_cold_cache_fetches_all_and_goes_through_its_phases_to_live() -> None:
    script = ready()
    script.hear(start("idv"))
    assert script.said(wire.Redeem) == [wire.Redeem(session_id="ses_1", ticket="ticket-1")]
    script.now += 0.05
    script.hear(grant("idv"))
    check = script.made(commands.CheckImage)[0]
    assert len(check.digests) == 8 * 16
    script.give(events.ImageChecked(session_id="ses_1", ref=check.ref, missing=tuple(range(8))))
    assert script.serve_all() == list(range(8))
    script.wait(60)
    assert script.phases() == ["lease", "image_check", "image_fetch", "local_boot"]
    took = {report.phase: report for report in script.told(wire.Report)}
    assert took["lease"].took_ms == 50
    assert took["image_fetch"].bytes_down == 8 * 64
    assert 15_000 <= took["local_boot"].took_ms <= 40_000
    assert script.told(wire.Live)


def test_what_was_fetched_goes_into_the_cache_and_the_image_is_complete_at_the_end() -> None:
    script = granted()
    script.serve_all()
    kept = [one.index for one in script.log if isinstance(one, commands.KeepSegment)]
    complete = [one for one in script.log if isinstance(one, commands.KeepImage)]
    assert kept == list(range(8))
    assert [one.image for one in complete] == [image()]


def test_a_warm_cache_fetches_nothing_and_still_reports_every_phase() -> None:
    script = live()
    assert not any(isinstance(one, commands.Fetch) for one in script.log)
    assert script.phases() == ["lease", "image_check", "image_fetch", "local_boot"]


def test_only_what_is_missing_is_fetched_in_order_with_a_small_look_ahead() -> None:
    missing = (1, 2, 3, 5, 6, 7)
    script = granted(missing=missing)
    asked = script.made(commands.Fetch)
    assert [one.index for one in asked] == [1, 2, 3, 5]
    assert len(asked) == limits.LOOK_AHEAD
    # the head is late: nothing further is asked for until it is here
    assert [one.index for one in script.made(commands.Fetch)] == [1, 2, 3, 5]
    script.serve(asked[1:])
    assert not script.made(commands.Fetch)
    script.serve(asked[:1])
    assert [one.index for one in script.made(commands.Fetch)] == [6, 7]


def test_bytes_are_told_with_the_next_heartbeat_and_only_once() -> None:
    script = granted(missing=(0, 1))
    script.serve_all()
    script.hear(wire.Pace(heartbeat_s=1))
    script.wait(1)
    first = script.told(wire.Heartbeat)[-1].sessions[0]
    assert (first.image, first.session_id) == (128, "ses_1")
    assert first.control > 500
    script.wait(1)
    assert script.told(wire.Heartbeat)[-1].sessions[0].image == 0


# --------------------------------------------------------------------- wrong bytes


def test_a_wrong_digest_is_fetched_again_once() -> None:
    script = granted(missing=(0,))
    asked = script.made(commands.Fetch)[0]
    script.give(script.fetched(asked, wrong=True))
    again = script.made(commands.Fetch)
    assert [one.index for one in again] == [0]
    assert not script.made(commands.KeepSegment)
    script.give(script.fetched(again[0]))
    script.wait(60)
    assert script.told(wire.Live)


def test_a_digest_that_is_wrong_twice_fails_the_session() -> None:
    script = granted(missing=(0, 1))
    asked = script.made(commands.Fetch)[0]
    script.give(script.fetched(asked, wrong=True))
    script.give(script.fetched(asked, wrong=True))
    assert script.said(wire.Failed)[0].code == "image.digest"
    assert script.made(commands.StopFetches)
    assert not script.told(wire.Live)


@pytest.mark.parametrize(
    "bad",
    [
        {"digests": ()},
        {"digests": ("00" * 16,) * 9},
        {"digests": ("zz" * 16,) * 8},
        {"digests": ("00" * 15,) * 8},
        {"image": image(segments=8, boot_segments=9)},
        {"image": image(segments=-1, boot_segments=-1)},
        {"image": image(segments=limits.SEGMENTS_MAX + 1)},
    ],
)
def test_a_grant_that_cannot_be_used_fails_the_session(bad: dict[str, object]) -> None:
    good = grant("idv")
    fields = {name: getattr(good, name) for name in good.__struct_fields__} | bad
    script = ready()
    script.hear(start("idv"))
    script.hear(wire.Grant(**fields))
    assert script.said(wire.Failed)[0].code == "image.manifest"


def test_a_grant_without_a_lease_is_not_run_on() -> None:
    script = ready()
    script.hear(start("idv"))
    script.hear(grant("idv", lease_until_ms=None))
    assert script.said(wire.Failed)[0].code == "lease.missing"


# ------------------------------------------------------------------- grant missing


def test_a_ticket_that_is_not_answered_fails_in_time() -> None:
    script = ready()
    script.hear(start("idv"))
    script.wait(limits.GRANT_S)
    assert script.said(wire.Failed)[0].code == "grant.timeout"


def test_a_grant_lost_with_the_link_is_asked_for_with_the_next_ticket() -> None:
    script = ready()
    script.hear(start("idv"))
    script.lose()
    script.wait(limits.GRANT_S + 1)
    assert not script.told(wire.Failed)
    script.connect()
    assert not script.said(wire.Redeem)
    script.hear(start("idv", ticket="ticket-2"))
    assert script.said(wire.Redeem)[0].ticket == "ticket-2"
    script.hear(grant("idv"))
    assert script.made(commands.CheckImage)


def test_a_ticket_is_shown_only_once() -> None:
    script = ready()
    script.hear(start("idv"))
    script.lose()
    script.connect()
    script.hear(start("idv"))
    assert not script.said(wire.Redeem)
    script.wait(limits.REORDER_S)
    assert script.told(wire.Failed)[0].code == "grant.timeout"


# ------------------------------------------------------------------- fetch trouble


def failed(asked: commands.Fetch, *, refused: bool = False) -> events.SegmentFailed:
    return events.SegmentFailed(
        session_id="ses_1", ref=asked.ref, index=asked.index, refused=refused, why="cut"
    )


def test_a_segment_that_does_not_arrive_is_tried_again_a_few_times() -> None:
    script = granted(missing=(0,))
    asked = script.made(commands.Fetch)[0]
    for _ in range(limits.FETCH_TRIES_MAX - 1):
        script.give(failed(asked))
        assert not script.said(wire.Failed)
        asked = script.wait_for(commands.Fetch)
    script.give(failed(asked))
    assert script.said(wire.Failed)[0].code == "image.unreachable"


def test_with_the_broker_gone_fetches_wait_for_it_and_are_not_counted_as_tries() -> None:
    script = granted(missing=(0, 1))
    asked = script.made(commands.Fetch)
    script.lose()
    for one in asked:
        script.give(failed(one))
    script.wait(300)
    assert not any(isinstance(one, commands.Fetch) for one in script.last)
    script.connect()
    assert [one.index for one in script.made(commands.Fetch)] == [0, 1]
    script.serve_all()
    script.wait(60)
    assert script.told(wire.Live)


def test_a_refused_image_token_is_replaced_with_the_next_ticket() -> None:
    script = granted(missing=(0, 1))
    for one in script.made(commands.Fetch):
        script.give(failed(one, refused=True))
    assert not script.told(wire.Failed)
    script.hear(start("idv", ticket="ticket-2"))
    assert script.said(wire.Redeem)[0].ticket == "ticket-2"
    script.hear(grant("idv", token="token-2"))
    again = script.made(commands.Fetch)
    assert [(one.index, one.token) for one in again] == [(0, "token-2"), (1, "token-2")]


def test_a_refused_image_token_without_another_ticket_fails_the_session() -> None:
    script = granted(missing=(0,))
    script.give(failed(script.made(commands.Fetch)[0], refused=True))
    script.wait(limits.REORDER_S)
    assert script.said(wire.Failed)[0].code == "image.refused"


def test_an_image_that_changes_under_the_fetch_fails_the_session() -> None:
    script = granted(missing=(0,))
    script.hear(grant("idv", of=image(version=2)))
    assert script.said(wire.Failed)[0].code == "image.manifest"


# ----------------------------------------------------------------------- the lease


def test_the_desktop_runs_on_without_the_broker_until_its_lease_ends() -> None:
    script = live()
    script.lose()
    script.wait(HOUR_S - 61)  # a minute has gone since the grant
    assert not any(one.what == "failed" for one in script.log if isinstance(one, commands.Note))
    script.wait(2)
    notes = [one for one in script.last if isinstance(one, commands.Note)]
    assert commands.Note(what="failed", architecture="idv", code="lease.expired") in notes
    assert not script.core.sessions


def test_a_lease_that_ended_without_the_broker_is_told_at_the_next_link() -> None:
    script = live()
    script.lose()
    script.wait(HOUR_S)
    assert not script.told(wire.Failed)
    script.connect()
    assert [one.code for one in script.said(wire.Failed)] == ["lease.expired"]
    assert not script.said(wire.Live)


def test_a_link_in_time_keeps_the_session_and_says_live_again() -> None:
    script = live()
    script.lose()
    script.wait(600)
    script.connect()
    assert script.said(wire.Live)
    script.wait(2 * HOUR_S)
    assert not script.told(wire.Failed)


def test_a_session_may_become_live_without_the_broker() -> None:
    script = granted(missing=())
    script.lose()
    script.wait(60)
    assert not script.told(wire.Live)
    script.connect()
    assert script.said(wire.Live)
    assert script.phases() == ["lease", "image_check", "image_fetch", "local_boot"]


def test_the_servers_clock_counts_and_not_the_endpoints() -> None:
    """The lease is an instant of the broker, which told its time in Welcome."""
    script = live(lease_until_ms=SERVER_MS + 120_000)
    script.lose()
    script.wait(59)
    assert script.core.sessions
    script.wait(2)
    assert not script.core.sessions


def test_with_the_link_up_the_broker_decides_and_a_loss_after_the_lease_has_a_short_grace() -> None:
    script = live(lease_until_ms=SERVER_MS + 120_000)
    script.wait(HOUR_S)
    assert script.core.sessions
    script.lose()
    script.wait(limits.LEASE_GRACE_S - 1)
    assert script.core.sessions
    script.wait(1)
    assert not script.core.sessions


def test_past_half_of_the_lease_a_repeated_order_renews_it() -> None:
    script = live()
    script.hear(start("idv", ticket="ticket-2"))
    assert not script.said(wire.Redeem)
    script.wait(HOUR_S / 2)
    script.hear(start("idv", ticket="ticket-3"))
    assert script.said(wire.Redeem)[0].ticket == "ticket-3"
    assert script.said(wire.Live)
    script.hear(grant("idv", lease_until_ms=script.server_ms + 3_600_000))
    assert script.last == []
    script.lose()
    script.wait(HOUR_S - 1)
    assert script.core.sessions
    script.wait(2)
    assert not script.core.sessions


def test_a_malformed_renewal_does_not_end_a_live_session() -> None:
    script = live()
    script.hear(grant("idv", of=image(segments=-1)))
    assert script.core.sessions


def test_a_stop_ends_the_session_in_every_phase() -> None:
    fetching = granted()
    booting = granted(missing=())
    waiting = ready()
    waiting.hear(start("idv"))
    for script in (waiting, fetching, booting, live()):
        script.hear(stop())
        ended = script.said(wire.Ended)
        assert [(one.session_id, one.generation) for one in ended] == [("ses_1", 1)]
        assert not script.core.sessions
        later = script.wait(HOUR_S)
        assert not any(isinstance(one, commands.Fetch) for one in later)
        assert [one for one in script.messages(later) if not isinstance(one, wire.Heartbeat)] == []
