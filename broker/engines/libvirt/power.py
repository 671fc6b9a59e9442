"""Switching a libvirt host off, over the SSH by which it is reached, and on, by its network card.

What libvirt has for this (`virNodeSuspendForDuration`) only sends a host to sleep for a time, so it
is not used. A host is off when it does not answer any more: neither SSH at its port, nor its
daemon; it is on when its daemon answers.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final

import libvirt

from broker.domain.errors import EngineError, UnsupportedError
from broker.engines.libvirt.address import Address
from broker.engines.libvirt.errors import telling
from broker.engines.libvirt.hosts import HostLink
from broker.engines.reach.wake import send
from broker.limits import HOST_POWER_ANSWER_S, HOST_POWER_LOOK_S
from broker.ports import Clock

_NAMED_MAX: Final = 3
"""machines that a refusal names"""


async def switch(link: HostLink, clock: Clock, *, on: bool, deadline_s: float) -> None:
    """See broker.ports.Engine.power. Raises EngineError."""
    try:
        async with asyncio.timeout(deadline_s):
            await (_switch_on(link, clock) if on else _switch_off(link, clock))
    except TimeoutError:
        way = "answer" if on else "fall silent"
        raise EngineError(f"{link.host.name} did not {way} in time") from None


async def _switch_on(link: HostLink, clock: Clock) -> None:
    wake = link.place.wake
    if wake is None:
        raise UnsupportedError(f"{link.host.name} cannot be switched on")
    while True:
        if await _answers(link.place.address):
            with contextlib.suppress(EngineError):  # its daemon is not up yet
                await link.connection.call(lambda one: _alive(one, link.host.name))
                return
        else:
            await send(wake)
        await clock.sleep(HOST_POWER_LOOK_S)


async def _switch_off(link: HostLink, clock: Clock) -> None:
    """A host that does not answer is off: this was asked before, or somebody pressed the button.
    Nothing of this installation's ran on it when it was asked."""
    off, name = link.place.off, link.host.name
    if off is None:
        raise UnsupportedError(f"{name} cannot be switched off")
    if await _answers(link.place.address):
        await _check_empty(link)
        said = await link.connection.run(off.command)
        if said.status:
            raise EngineError(f"{name} refuses to go off: it does not run {off.command}")
    while not link.connection.lost.is_set() or await _answers(link.place.address):
        await clock.sleep(HOST_POWER_LOOK_S)


async def _check_empty(link: HostLink) -> None:
    """Machines of others, too, would go off with it."""
    names = await link.connection.call(lambda one: _running(one, link.host.name))
    if names:
        named = ", ".join(names[:_NAMED_MAX])
        raise EngineError(f"{len(names)} machines run on {link.host.name} ({named})")


def _running(connection: Any, host: str) -> list[str]:
    with telling(host, "list its machines"):
        found = connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
        return sorted(one.name() for one in found)


def _alive(connection: Any, host: str) -> None:
    with telling(host, "answer"):
        connection.getInfo()


async def _answers(address: Address) -> bool:
    """Whether SSH is heard at the host's port: that a connection is taken proves nothing where
    something in between takes it."""
    try:
        async with asyncio.timeout(HOST_POWER_ANSWER_S):
            reader, writer = await asyncio.open_connection(address.host, address.port)
            try:
                return bool(await reader.read(1))
            finally:
                writer.transport.abort()
    except (OSError, TimeoutError):
        return False
