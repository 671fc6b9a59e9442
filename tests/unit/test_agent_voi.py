"""VOI at a fat endpoint: boot order, streamed boot in order, stall without the server."""

from __future__ import annotations

import pytest

from agents import limits
from agents.core import commands
from broker import wire
from tests.support.agent_script import Script, grant, image, ready, start, stop


def streaming(*, boot_segments: int = 10) -> Script:
    script = ready()
    script.hear(start("voi"))
    script.hear(grant("voi", of=image(segments=40, boot_segments=boot_segments)))
    return script


def live() -> Script:
    script = streaming()
    script.serve_all()
    script.wait(60)
    assert script.told(wire.Live)
    return script


def test_a_session_boots_from_the_stream_and_goes_through_its_phases_to_live() -> None:
    script = live()
    assert script.phases() == ["boot_order", "boot_stream", "os_start"]
    took = {report.phase: report for report in script.told(wire.Report)}
    assert took["boot_stream"].bytes_down == 10 * 64
    assert 8_000 <= took["os_start"].took_ms <= 25_000


def test_only_the_boots_segments_are_streamed_and_in_their_order() -> None:
    script = streaming()
    assert script.serve_all() == list(range(10))


def test_nothing_is_kept_of_a_stream() -> None:
    script = live()
    assert not any(isinstance(one, commands.KeepSegment) for one in script.log)
    assert not any(one.keep for one in script.log if isinstance(one, commands.Fetch))


@pytest.mark.parametrize("boot_segments", [0, 1, 4, 5])
def test_streams_of_every_length_end(boot_segments: int) -> None:
    script = streaming(boot_segments=boot_segments)
    assert script.serve_all() == list(range(boot_segments))
    script.wait(60)
    assert script.told(wire.Live)


def test_the_look_ahead_is_small() -> None:
    script = streaming()
    asked = script.made(commands.Fetch)
    assert len(asked) == limits.LOOK_AHEAD
    script.serve(asked[1:])
    assert not script.made(commands.Fetch)


def test_a_streamed_desktop_hangs_without_its_server_and_lives_on_if_that_comes_back() -> None:
    script = live()
    script.lose()
    script.wait(limits.STREAM_STALL_S - 1)
    script.connect()
    assert script.core.sessions
    assert script.told(wire.Live)[-1].session_id == "ses_1"
    script.wait(3600)
    assert script.core.sessions


def test_a_streamed_desktop_is_lost_when_its_server_is_away_for_too_long() -> None:
    script = live()
    script.lose()
    script.wait(limits.STREAM_STALL_S)
    assert not script.core.sessions
    script.connect()
    assert script.told(wire.Failed)[-1].code == "stream.lost"


def test_a_lost_link_does_not_end_a_stream_that_still_flows() -> None:
    script = streaming()
    asked = script.made(commands.Fetch)
    script.lose()
    script.serve(asked)
    script.serve_all()
    script.connect()
    script.wait(60)
    assert script.told(wire.Live)


def test_a_stop_ends_the_stream() -> None:
    script = streaming()
    asked = script.made(commands.Fetch)
    script.hear(stop())
    assert script.made(commands.StopFetches)
    assert script.said(wire.Ended)
    assert script.serve(asked) == []
