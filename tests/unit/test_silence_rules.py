"""Since when a host is not heard, and how that is written down."""

from __future__ import annotations

from broker.domain.silence import Silence, plain, silent_of
from tests.support.builders import NOW


def test_it_lasts_from_when_nothing_was_heard_and_never_less_than_nothing() -> None:
    silence = Silence(since=NOW)
    assert silence.lasts_s(NOW + 2500) == 2.5
    assert silence.lasts_s(NOW - 1) == 0


def test_it_is_read_as_it_was_written() -> None:
    silent = {"hst_2": Silence(since=NOW, why="no route"), "hst_1": Silence(since=NOW - 1)}
    written = plain(silent)
    assert written == {
        "hosts": {
            "hst_1": {"since": NOW - 1, "why": ""},
            "hst_2": {"since": NOW, "why": "no route"},
        }
    }
    assert silent_of(written) == silent
    assert silent_of({}) == {}
    assert silent_of({"hosts": {"hst_1": {"since": NOW}}}) == {"hst_1": Silence(since=NOW)}
