"""A pool's new weights, guarantee and limits reach the machines that run already.

Every engine call carries them, so what is made, made fresh or resumed has them. For the others a
resize to the size that they have is asked, a few at a time: a document of each pool says how far
that is, so that whichever process does it next goes on there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Final

from broker import limits
from broker.domain.errors import ConflictError
from broker.domain.features import Feature
from broker.domain.model import Architecture, Desktop, DesktopState, Host, JobVerb, Pool, WorkLease
from broker.domain.settings import PoolSettings
from broker.ports import Document, Engine, PageQuery
from broker.services.engine_work import EngineWork
from broker.services.jobs import new_job
from broker.services.kit import Kit
from broker.services.pools import Pools

PREFIX: Final = "shares:"
EVERY_S: Final = 2.0
"""between two batches of UNLIKE_PER_LOOK_MAX desktops of each pool"""
_RUNNING: Final = frozenset({DesktopState.READY, DesktopState.ASSIGNED})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Progress:
    """Which shares the pool's machines get, and how far that is. `after`: the last desktop that
    was asked; None: all were."""

    shares: Mapping[str, object]
    after: str | None
    revision: int


def _shares(settings: PoolSettings) -> Mapping[str, object]:
    shares = ("weights", "guarantee", "limits")
    return {name: asdict(getattr(settings, name)) for name in shares}


_DEFAULT: Final = _shares(PoolSettings())


def _read(document: Document | None) -> _Progress:
    """Without a document the pool has what it had before anybody set anything."""
    if document is None:
        return _Progress(shares=_DEFAULT, after=None, revision=0)
    value, after = document.value, document.value.get("after")
    return _Progress(
        shares={name: value.get(name) for name in _DEFAULT},
        after=None if after is None else str(after),
        revision=document.revision,
    )


class PoolShares:
    def __init__(
        self, kit: Kit, pools: Pools, works: EngineWork, engines: Callable[[str], Engine]
    ) -> None:
        self._kit = kit
        self._pools = pools
        self._works = works
        self._engines = engines

    async def sweep(self, lease: WorkLease | None) -> None:
        """One batch for each pool whose shares have not reached all of its machines."""
        documents = await self._kit.store.documents.documents(PREFIX)
        known = {one.name.removeprefix(PREFIX): one for one in documents}
        for pool in await self._pools.all():
            if pool.architecture is not Architecture.VDI:
                continue
            progress, wanted = _read(known.get(pool.id)), _shares(pool.settings)
            if progress.shares != wanted:
                progress = replace(progress, shares=wanted, after="")
            if progress.after is not None and lease is not None:
                await self._batch(pool, progress, lease)

    async def _batch(self, pool: Pool, progress: _Progress, lease: WorkLease) -> None:
        store = self._kit.store
        page = await store.desktops.desktops(
            PageQuery(
                limit=limits.UNLIKE_PER_LOOK_MAX,
                after=progress.after or None,
                filters={"pool_id": pool.id},
            )
        )
        hosts = {load.host.id: load.host for load in await store.directory.host_loads()}
        jobs = [
            replace(new_job(self._kit, one, JobVerb.RESIZE), arguments=_size(one))
            for one in page.items
            if one.state in _RUNNING
            and self._takes(hosts.get(one.host_id or ""))
            # one of another size gets these with its new size
            and one.resources == pool.resources
        ]
        if jobs:
            await store.desktops.add((), jobs, lease=lease)
            self._works.wake()
        value = {**progress.shares, "after": page.next_after}
        try:
            await store.documents.save(PREFIX + pool.id, value, revision=progress.revision)
        except ConflictError:
            return  # another process was here: what it asked is asked twice, which does nothing

    def _takes(self, host: Host | None) -> bool:
        if host is None:
            return False
        try:
            return Feature.RESIZE in self._engines(host.engine).features(host)
        except KeyError:
            return False


def _size(desktop: Desktop) -> Mapping[str, str]:
    return {name: str(value) for name, value in asdict(desktop.resources).items()}
