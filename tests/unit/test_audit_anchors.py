"""Anchors kept outside the store: what shows that the trail's end was cut."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from broker.domain.errors import UnavailableError
from broker.limits import AUDIT_ANCHOR_S
from broker.services.audit import Audit
from broker.services.shared_work import SharedWork
from broker.store.memory import MemoryStore
from broker.store.memory.state import State
from broker.system import AnchorFile
from tests.support.world import World, make_world
from tests.unit.test_audit_service import entry


class Trail:
    """A trail of its own that can be tampered with, and a broker that runs its sealer."""

    def __init__(self, world: World, path: Path) -> None:
        self.state = State()
        self.kit = replace(world.kit, store=MemoryStore(self.state))
        self.file = AnchorFile(path)
        self.audit = self.broker()

    def broker(self) -> Audit:
        return Audit(self.kit, SharedWork(self.kit), self.file)

    async def look(self, world: World, audit: Audit | None = None) -> None:
        """One turn of the sealer's loop, past the pause between two anchors."""
        world.clock.advance(AUDIT_ANCHOR_S)
        await (audit or self.audit).turn()


async def test_the_newest_seal_is_kept_outside_the_store(tmp_path: Path) -> None:
    async with make_world() as world:
        trail = Trail(world, tmp_path / "audit.anchor")
        await trail.look(world)
        assert await trail.file.kept() == ""
        await trail.kit.store.audit.append([entry(number) for number in range(5)])
        await trail.look(world)
        number, seal = await trail.kit.store.audit.last_seal()
        assert await trail.file.kept() == f"{number}:{seal.hex()}"
        assert (tmp_path / "audit.anchor").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("left", [4, 0])
async def test_a_trail_whose_end_was_cut_does_not_hold_and_its_anchor_stays(
    tmp_path: Path, left: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with make_world() as world:
        trail = Trail(world, tmp_path / "audit.anchor")
        await trail.kit.store.audit.append([entry(number) for number in range(9)])
        await trail.look(world)
        kept = await trail.file.kept()
        del trail.state.audit.chain[left:]
        checked = await trail.broker().check()
        assert checked.broken is not None
        assert checked.broken.number == 9
        await trail.kit.store.audit.append([entry(number) for number in range(20, 40)])
        with caplog.at_level(logging.ERROR, "trivium.audit"):
            await trail.look(world, trail.broker())
        assert "does not hold at 9" in caplog.text
        assert await trail.file.kept() == kept


@pytest.mark.parametrize("text", ["", "nonsense\n", "\xff", "12:ab"])
async def test_an_anchor_that_cannot_be_read_stops_nothing(tmp_path: Path, text: str) -> None:
    async with make_world() as world:
        path = tmp_path / "audit.anchor"
        path.write_text(text, encoding="latin-1")
        trail = Trail(world, path)
        await trail.kit.store.audit.append([entry(1)])
        await trail.look(world)
        assert (await trail.audit.check()).broken is None
        assert (await trail.file.kept()).startswith("1:")


async def test_a_place_that_cannot_be_written_stops_no_sealing(tmp_path: Path) -> None:
    async with make_world() as world:
        trail = Trail(world, tmp_path / "nowhere" / "audit.anchor")
        await trail.kit.store.audit.append([entry(1)])
        await trail.look(world)
        assert (await trail.kit.store.audit.last_seal())[0] == 1
        (tmp_path / "nowhere").mkdir()
        (tmp_path / "nowhere" / "audit.anchor").mkdir()
        with pytest.raises(UnavailableError):
            await trail.audit.check()
