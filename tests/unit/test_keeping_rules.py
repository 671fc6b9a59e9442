"""Whose work lies in a desktop, and how often one that failed is started again for it."""

from __future__ import annotations

import pytest

from broker.domain.keeping import Recovery, is_due, keeps_work, pause_s, tried
from broker.domain.model import LogOff, PoolKind
from tests.support.builders import NOW, make_pool


@pytest.mark.parametrize("kind", PoolKind)
@pytest.mark.parametrize("log_off", LogOff)
@pytest.mark.parametrize("owner_id", [None, "usr_1"])
def test_only_what_is_somebodys_and_kept_at_log_off_holds_his_work(
    kind: PoolKind, log_off: LogOff, owner_id: str | None
) -> None:
    kept = (kind, log_off, owner_id) == (PoolKind.DEDICATED, LogOff.KEEP, "usr_1")
    assert keeps_work(make_pool(kind=kind, log_off=log_off), owner_id) is kept


def test_pauses_double_up_to_the_longest() -> None:
    found = [pause_s(tries) for tries in (1, 2, 3, 5, 6, 99)]
    assert found == [60, 120, 240, 960, 1800, 1800]


def test_each_failure_in_a_row_waits_for_longer() -> None:
    once = tried({}, ["dsk_1"], NOW)
    assert once == {"dsk_1": Recovery(tries=1, next_at=NOW + 60_000)}
    assert not is_due(once, "dsk_1", NOW + 59_999)
    assert is_due(once, "dsk_1", NOW + 60_000)
    assert is_due(once, "dsk_2", NOW)
    later = NOW + 60_000
    both = tried(once, ["dsk_1", "dsk_2"], later)
    assert both == {
        "dsk_1": Recovery(tries=2, next_at=later + 120_000),
        "dsk_2": Recovery(tries=1, next_at=later + 60_000),
    }
    assert tried(both, (), later) == both


def test_after_a_long_run_the_next_failure_is_the_first() -> None:
    once = tried({}, ["dsk_1"], NOW)
    end = NOW + 60_000 + 1_800_000
    assert tried(once, (), end - 1) == once
    assert tried(once, (), end) == {}
    assert tried(once, ["dsk_1"], end)["dsk_1"].tries == 1
