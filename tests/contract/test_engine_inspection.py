"""What an engine that looks at hosts owes: what it tells is what it then does, and a look at a
host that is not added leaves nothing behind."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.domain.errors import EngineError
from broker.domain.features import Feature
from broker.domain.inspection import HELD, Step, Verdict
from broker.domain.model import Host
from broker.domain.viewers import IN_BROWSERS
from broker.ports import Engine, HostInspector
from tests.support.builders import make_desktop
from tests.support.engine_kinds import INSPECT, EngineKind
from tests.support.engines import EngineCase, listening

pytestmark = pytest.mark.needs(INSPECT)
FEATURES = {feature.value for feature in Feature}


def inspector(engine: Engine) -> HostInspector:
    assert isinstance(engine, HostInspector)
    return engine


async def looked(engine: Engine, host: Host) -> list[Step]:
    return [step async for step in inspector(engine).probe(host)]


async def test_what_a_host_is_told_to_be_able_to_do_is_what_the_engine_claims(
    case: EngineCase, kind: EngineKind
) -> None:
    async with listening(engine := case.start()):
        told = await inspector(engine).abilities(case.host)
        can = {one.name for one in told.can}
        cannot = {one.name for one in told.cannot}
        assert "desktops" in can
        assert FEATURES & can == kind.features == engine.features(case.host)
        assert can | cannot >= FEATURES | set(HELD)
        assert not can & cannot
        shown = engine.displays(case.host)
        assert ("display" in can) == bool(shown & IN_BROWSERS)
        assert ("display_spice" in can, "display_rdp" in can) == ("spice" in shown, "rdp" in shown)
        assert {"display", "display_spice", "display_rdp"} <= can | cannot
        assert all(one.says for one in (*told.can, *told.cannot))
        assert all(name and text for name, text in told.facts)


async def test_a_host_that_would_do_is_found_so_and_nothing_is_left_there(
    case: EngineCase,
) -> None:
    fresh = replace(case.host, id="hst_new", name="server-new")
    async with listening(engine := case.start()):
        await engine.create(case.operation("job_1", make_desktop()))
        before = await engine.machines()
        steps = await looked(engine, fresh)
        assert [step for step in steps if step.verdict is Verdict.MISSING] == []
        assert steps[0].verdict is Verdict.OK
        assert len({step.name for step in steps}) == len(steps)
        assert await engine.machines() == before
        assert await looked(engine, fresh) is not None


async def test_a_profile_that_nobody_knows_ends_the_look_at_its_first_step(
    case: EngineCase,
) -> None:
    async with listening(engine := case.start()):
        for profile in ("hal9000", f"{case.host.profile.partition('?')[0]}?speed=warp"):
            first, *others = await looked(engine, replace(case.host, profile=profile))
            assert first.verdict is Verdict.MISSING
            assert first.advice
            assert {step.verdict for step in others} == {Verdict.UNKNOWN}
        with pytest.raises(EngineError):
            await inspector(engine).abilities(replace(case.host, profile="hal9000"))


async def test_a_profile_that_is_refused_is_that_of_a_host_which_could_do_nothing(
    case: EngineCase,
) -> None:
    engine = case.start()
    for profile in ("hal9000", f"{case.host.profile.partition('?')[0]}?speed=warp"):
        assert not engine.features(replace(case.host, profile=profile))
        with pytest.raises(EngineError, match=r"hal9000|speed"):
            engine.check_profile(profile)
