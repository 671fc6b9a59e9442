"""Servers whose agents link up: their tickets at a real OpenStack, and when they are ready."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

from broker import guest_wire
from tests.support.builders import make_desktop, make_host
from tests.support.engines import listening, said
from tests.support.eventually import eventually
from tests.support.guest_links import Links
from tests.support.openstack_cases import openstack_case, openstack_engine, profile
from tests.support.openstack_files import COMPUTES
from tests.support.openstack_lab import OpenStackLab


def ready(generation: int) -> bytes:
    said = guest_wire.State(desktop_id="dsk_1", generation=generation, ready=True)
    return guest_wire.encode(said)


async def test_each_generation_of_a_server_has_a_ticket_and_is_ready_by_its_agents_word(
    openstack_lab: OpenStackLab,
) -> None:
    links = Links()
    host = make_host(engine="openstack", profile=profile(COMPUTES[0], agent="websocket"))
    case = replace(openstack_case(openstack_lab), host=host)
    engine = openstack_engine(openstack_lab, guest_links=links)
    with contextlib.closing(openstack_lab.cloud()) as cloud:

        def metadata() -> dict[str, str]:
            [server] = cloud.compute.servers(details=True)
            return dict(server.metadata)

        async with listening(engine) as heard:
            for generation, verb in ((1, engine.create), (2, engine.reset)):
                desktop = make_desktop(generation=generation)
                await verb(case.operation(f"job_{generation}", desktop))
                told = await asyncio.to_thread(metadata)
                assert told["trivium_ticket"] == f"dsk_1.{generation}"
                assert told["trivium_broker"] == "https://desk"
                # it runs, as far as Nova knows, and its agent was told who it is
                await eventually(
                    lambda generation=generation: (  # type: ignore[misc]
                        (one := links.attending.get(("dsk_1", generation))) and one.heard
                    )
                )
                assert ("dsk_1", generation, True) not in said(heard)
                links.attending["dsk_1", generation].said(ready(generation))
                await eventually(
                    lambda generation=generation: ("dsk_1", generation, True) in said(heard)  # type: ignore[misc]
                )
            assert engine.has_guests(host)
            guest = engine.guest("dsk_1")
            assert guest is not None
            assert guest.generation == 2
