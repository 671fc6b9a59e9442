"""What another profile of a host would leave behind."""

from __future__ import annotations

from broker.domain.homes import left_behind


def test_what_is_said_no_more_or_says_another_is_left_behind_and_what_is_new_is_not() -> None:
    before = {"uri": "a", "pool": "x", "class fast": "ssd"}
    assert left_behind(before, before | {"class bulk": "nas"}) == ()
    assert left_behind(before, {"uri": "b", "pool": "x"}) == ("class fast", "uri")
    assert left_behind({}, before) == ()
