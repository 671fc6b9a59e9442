"""The chance part of an id."""

from __future__ import annotations

from broker.system import SystemIds


def test_the_chance_part_is_spread_over_its_whole_width() -> None:
    tails = {SystemIds().new("x")[-12:] for _ in range(500)}
    assert len(tails) == 500
    # the top bit is kept free for counting up
    assert {tail[0] for tail in tails} <= set("0123456789abcdef")
    assert len({tail[0] for tail in tails}) > 8
