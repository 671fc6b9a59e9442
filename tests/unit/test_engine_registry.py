"""Engines are found by short name among whatever is installed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from broker.domain.errors import ConfigError
from broker.engines.registry import (
    EngineContext,
    EngineSet,
    engine_factory,
    known_engines,
    usable_engines,
)
from broker.engines.simulated import SimulatedEngine, build
from broker.ports import Engine, MachineReport
from broker.system import SystemChance, SystemClock, SystemIds
from tests.support.builders import make_desktop
from tests.support.engines import said, simulated_case
from tests.support.eventually import eventually

CONTEXT = EngineContext(
    clock=SystemClock(), chance=SystemChance(1), ids=SystemIds(), installation_id="ins_1",
    speed=1000,
)  # fmt: skip


@pytest.fixture
def another_distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed distribution that brings an engine under a name of its own."""
    info = tmp_path / "another-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: another\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[trivium.engines]\nanother = broker.engines.simulated:build\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("another_distribution")
def test_an_engine_of_another_distribution_is_found_by_its_short_name() -> None:
    assert engine_factory("another") is build
    assert "another" in known_engines()


@pytest.mark.usefixtures("another_distribution")
def test_an_unknown_engine_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"no engine is called 'hyper'; known: .*another"):
        EngineSet.named(["another", "hyper"], CONTEXT)


def refuses(context: EngineContext) -> Engine:
    del context
    raise ConfigError("install acme-sdk")


def test_an_engine_whose_factory_refuses_is_left_out_and_the_others_are_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    info = tmp_path / "acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[trivium.engines]\nacme = {__name__}:refuses\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "acme" in usable_engines()
    assert list(EngineSet.named(["acme", "simulated"], CONTEXT)) == ["simulated"]
    assert "the engine acme is left out: install acme-sdk" in caplog.text


@pytest.mark.usefixtures("another_distribution")
async def test_a_set_of_engines_hands_over_every_report_until_it_is_closed() -> None:
    engines = EngineSet.named(["another"], CONTEXT)
    assert list(engines) == ["simulated"]
    heard: list[MachineReport] = []

    async def handle(report: MachineReport) -> None:
        heard.append(report)

    async with asyncio.TaskGroup() as group:
        await engines.open()
        group.create_task(engines.pump(handle))
        await engines["simulated"].create(simulated_case().operation("job_1", make_desktop()))
        await eventually(lambda: heard)
        await engines.close()
    assert said(heard) == [("dsk_1", 1, True)]


class BrokenEngine(SimulatedEngine):
    async def open(self) -> None:
        raise ConfigError("no")


async def test_engines_opened_before_one_that_fails_are_closed_again() -> None:
    good = build(CONTEXT)
    bad = BrokenEngine(
        clock=CONTEXT.clock, chance=CONTEXT.chance, name="broken",
        calibration=good._calibration,  # type: ignore[attr-defined]
    )  # fmt: skip
    with pytest.raises(ConfigError):
        await EngineSet([good, bad]).open()
    assert [report async for report in good.reports()] == []


def test_an_engine_whose_library_is_missing_says_so_and_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "needy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: needy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[trivium.engines]\nneedy = broker.engines.libvirt:build\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "libvirt", None)
    for name in [name for name in sys.modules if name.startswith("broker.engines.libvirt")]:
        monkeypatch.delitem(sys.modules, name)
    assert "needy" in known_engines()
    with pytest.raises(ConfigError, match=r"trivium\[libvirt\]"):
        engine_factory("needy")
    assert "needy" not in usable_engines()
    assert "simulated" in usable_engines()
