"""How things stand."""

from __future__ import annotations

from aiohttp import web

from broker.domain.model import EndpointKind
from broker.domain.roles import Permission
from broker.web.api.shapes import OverviewShape, StandingShape
from broker.web.call import Call
from broker.web.context import Web
from broker.web.encoding import stamp
from broker.web.routes import Route


class OverviewApi:
    def __init__(self, web_: Web) -> None:
        self._web = web_

    async def overview(self, call: Call) -> web.StreamResponse:
        overviews = self._web.services.overviews
        at, counts, standings = await overviews.now()
        endpoints: dict[str, dict[str, int]] = {kind.value: {} for kind in EndpointKind}
        for (kind, state), count in counts.endpoints.items():
            endpoints[str(kind)][str(state)] = count
        return call.answer(
            OverviewShape(
                at=stamp(at),
                architectures={
                    name: StandingShape(
                        desktops=dict(one.desktops),
                        sessions=dict(one.sessions),
                        waiting=one.waiting,
                        connects_per_min=round(one.connects_per_min, 2),
                        live_per_min=round(one.live_per_min, 2),
                        failures_per_min=round(one.failures_per_min, 2),
                    )
                    for name, one in standings.items()
                },
                endpoints=endpoints,
                series=[{"at": stamp(sample.at), **sample.counts} for sample in overviews.series],
            )
        )

    def routes(self) -> tuple[Route, ...]:
        return (
            Route(
                method="GET",
                path="/api/v1/overview",
                handler=self.overview,
                need=Permission.READ,
                summary="Counts, rates and the last ten minutes, by architecture",
                answers={200: OverviewShape},
            ),
        )
