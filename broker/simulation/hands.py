"""What the staff does with machines that run, whoever works in them: restart them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from broker.domain.errors import NotFoundError
from broker.domain.model import Architecture, Desktop, DesktopState, Pool
from broker.ports import PageQuery
from broker.services.bundle import Services
from broker.simulation.keepers import Do

_IN_USE: Final = 0.7
"""the share of the orders that are for a desktop in use"""


class Hands:
    """`pools`: all of them, as they are."""

    def __init__(
        self, do: Do, actor: str, chance: Random, pools: Callable[[], Sequence[Pool]]
    ) -> None:
        self._do = do
        self._actor = actor
        self._chance = chance
        self._pools = pools

    async def restart(self) -> None:
        state, draw = self._state(), self._chance.random()

        async def work(services: Services) -> None:
            desktop = await self._desktop(services, state, draw)
            await services.desktop_restarts.restart(desktop.id, actor=self._actor)

        await self._do("desktop.restart", work)

    def _state(self) -> DesktopState:
        return self._chance.choice(
            (DesktopState.ASSIGNED, DesktopState.ASSIGNED, DesktopState.READY)
        )

    async def _desktop(self, services: Services, state: DesktopState, draw: float) -> Desktop:
        found: list[Desktop] = []
        for pool in self._pools():
            if pool.architecture is Architecture.VDI:
                filters = {"pool_id": pool.id, "state": state.value}
                query = PageQuery(limit=100, filters=filters)
                found += (await services.kit.store.desktops.desktops(query)).items
        if not found:
            raise NotFoundError
        return found[int(draw * len(found))]
