"""A running machine moves between two hosts that have nothing but a cable and their storage."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from broker.guest_wire import FromGuest, Hello
from broker.ports import Console, Machine
from tests.support.eventually import eventually
from tests.support.libvirt_bench import on_bench
from tests.support.libvirt_lab import LibvirtLab, running_lab, two_networks

GREETING = b"RFB 003.008\n"


@pytest.fixture(scope="module")
def apart() -> Iterator[LibvirtLab]:
    with two_networks() as networks, running_lab(networks) as lab:
        yield lab


async def greeting(console: Console) -> bytes:
    heard = b""
    while len(heard) < len(GREETING) and (more := await console.receive()):
        heard += more
    return heard


async def test_a_desktop_in_use_moves_and_its_display_is_opened_again_where_it_is(
    apart: LibvirtLab,
) -> None:
    async with on_bench(apart) as bench:
        boots: set[str] = set()

        def listen(_guest: object, said: FromGuest) -> None:
            if isinstance(said, Hello):
                boots.add(said.boot_id)

        bench.engine.guests.on_said = listen
        desktop = await bench.made()
        await bench.tell(desktop, "before-the-move")
        before = await bench.engine.console(desktop, "ses_1")
        assert await greeting(before) == GREETING
        await bench.engine.migrate(bench.case.operation("job_2", desktop), bench.case.other)
        assert await bench.engine.machines() == (
            Machine(
                desktop_id="dsk_1", generation=1, running=True, host_id="hst_2", users=("ses_1",)
            ),
        )
        assert await before.receive() == b""
        after = await bench.engine.console(desktop, "ses_1")
        assert await greeting(after) == GREETING
        await eventually(lambda: bench.kept(desktop) == "before-the-move")
        assert len(boots) == 1
        assert bench.heard == []
        await after.close()
        await bench.engine.migrate(bench.case.operation("job_3", desktop), bench.case.host)
        assert [one.host_id for one in await bench.engine.machines()] == ["hst_1"]
