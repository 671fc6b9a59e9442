"""What the conformance suite needs to hold the filed engine to the contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.engines.registry import EngineContext, engine_factory
from broker.ports import Engine
from broker.system import SystemChance, SystemClock, SystemIds
from tests.support.builders import make_host
from tests.support.engine_kinds import EngineKind
from tests.support.engines import IMAGE, EngineCase


def filed_case(request: pytest.FixtureRequest) -> EngineCase:
    """Every engine object that `start` makes finds the same machines, as after a restart."""
    folder: Path = request.getfixturevalue("tmp_path")

    def start() -> Engine:
        return engine_factory("filed")(
            EngineContext(
                clock=SystemClock(),
                chance=SystemChance(1),
                ids=SystemIds(),
                installation_id="ins_1",
                data=folder,
            )
        )

    host = make_host(engine="filed", profile="")
    return EngineCase(
        start=start,
        host=host,
        image=IMAGE,
        other=make_host(id="hst_2", name="server-2", engine="filed", profile=""),
        full=make_host(id="hst_3", name="server-3", engine="filed", profile=""),
        displays=False,
    )


KIND = EngineKind(name="filed", make=filed_case, claims=frozenset())
