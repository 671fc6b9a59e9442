"""What an engine owes that keeps files of images on hosts: those of removed ones go, in time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.domain.errors import EngineError
from broker.domain.model import HostState
from broker.ports import Engine, ImageKeeper
from tests.contract.test_engine_features import one_ready, the_machine
from tests.support.builders import make_desktop
from tests.support.engine_kinds import IMAGES
from tests.support.engines import EngineCase, listening

pytestmark = pytest.mark.needs(IMAGES)
DEADLINE_S = 60.0


async def clear(engine: Engine, case: EngineCase) -> tuple[str, ...]:
    assert isinstance(engine, ImageKeeper)
    return await engine.clear_images(case.host, (case.image,), DEADLINE_S)


async def test_what_a_desktop_stands_on_stays_and_goes_after_it(case: EngineCase) -> None:
    async with one_ready(case) as (engine, _):
        at_once = await clear(engine, case)
        assert (await the_machine(engine)).running
        await engine.destroy(case.operation("job_2", make_desktop()))
        later = await clear(engine, case)
        assert later
        assert not set(later) & set(at_once)
        assert await clear(engine, case) == ()


async def test_files_of_other_images_stay(case: EngineCase) -> None:
    async with one_ready(case) as (engine, _):
        assert isinstance(engine, ImageKeeper)
        await engine.destroy(case.operation("job_2", make_desktop()))
        other = replace(case.image, id="img_9", version=case.image.version + 1)
        assert await engine.clear_images(case.host, (other,), DEADLINE_S) == ()
        assert await clear(engine, case)


async def test_a_host_that_is_away_says_so(case: EngineCase) -> None:
    async with listening(case.start()) as _:
        engine = case.start()
        assert isinstance(engine, ImageKeeper)
        away = replace(case.host, state=HostState.OFF)
        with pytest.raises(EngineError):
            await engine.clear_images(away, (case.image,), DEADLINE_S)
