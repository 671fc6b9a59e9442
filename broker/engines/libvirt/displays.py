"""Displays of machines that are open: found, handed over, and ended with their machine."""

from __future__ import annotations

import socket
from collections import defaultdict
from collections.abc import Callable

from broker.domain.errors import EngineError, UnsupportedError
from broker.domain.model import Desktop, Host
from broker.engines.libvirt.display import RDP_PORT, StreamConsole
from broker.engines.libvirt.guests import Guest, Guests
from broker.engines.libvirt.hosts import HostLink, Hosts
from broker.engines.libvirt.kinds import Agent
from broker.engines.libvirt.knobs import Shows
from broker.engines.libvirt.machines import Found
from broker.engines.libvirt.turns import Turn, Turns
from broker.limits import CONSOLES_PER_MACHINE_MAX, DISPLAY_OPEN_S, SPICE_CHANNELS_MAX
from broker.ports import Console


class Displays:
    def __init__(self, hosts: Hosts, guests: Guests, turns: Turns) -> None:
        self._hosts = hosts
        self._guests = guests
        self._turns = turns
        self._open: defaultdict[str, dict[StreamConsole, None]] = defaultdict(dict)

    def kinds(self, host: Host) -> frozenset[str]:
        """Protocols of the host's machines: VNC and SPICE, where the daemon can hand a connection
        over or SSH leads to the host; VNC where they show it with certificates; and RDP, where
        the profile says in which network the desktops are."""
        try:
            place = self._hosts.know(host).place
        except EngineError:
            return frozenset()
        spice = place.spice and place.shows is not Shows.CERTIFIED
        own = {"vnc", "spice"} if spice else {"vnc"}
        shown = own if place.shows is not Shows.NONE else set()
        return frozenset(shown | ({"rdp"} if place.rdp else set()))

    async def open(self, desktop: Desktop, session_id: str, protocol: str) -> Console:
        """The machine's VNC or SPICE server, as a raw connection, or the RDP server in it. The
        oldest goes when a machine has too many of a protocol.

        Raises EngineError; UnsupportedError for the former of a daemon that is reached over TLS,
        which cannot hand a connection over, where its machines do not show it with certificates.
        """
        guest = self._guests.get(desktop.id)
        link = self._hosts.get(guest.host_id if guest is not None else desktop.host_id or "")
        if link is None:
            raise EngineError(f"{desktop.name} does not run")
        if protocol not in self.kinds(link.host):
            text = f"{link.host.name} cannot hand over a {protocol.upper()} display"
            raise UnsupportedError(text)
        async with self._turns.next(desktop.id, DISPLAY_OPEN_S) as turn:
            found = await self._shown(turn, link, desktop, session_id)
            if protocol != "rdp":
                console = await self._handed_over(turn, link, found, protocol)
                return self._keep(desktop.id, console)
            told = await self._addresses(turn, link, found, guest)
        console = await StreamConsole.to(
            link.place.address_of(told), RDP_PORT, protocol, self._forget(desktop.id)
        )
        if self._guests.get(desktop.id) is not guest:
            console.end()
            raise EngineError(f"{desktop.name} does not run any more")
        return self._keep(desktop.id, console)

    async def _shown(self, turn: Turn, link: HostLink, desktop: Desktop, session_id: str) -> Found:
        """The machine, tagged with who sees it. Raises EngineError: there is nothing to see."""
        found = await turn.do(link, lambda machines: machines.find(desktop.id))
        if found is None or not found.running:
            raise EngineError(f"{desktop.name} does not run")
        if found.tags.generation != desktop.generation:
            raise EngineError(f"{desktop.name} has been made fresh since")
        there = found
        if session_id:
            tags = there.tags.used_by(session_id)
            await turn.do(link, lambda machines: machines.tag(there, tags))
        return there

    async def _handed_over(
        self, turn: Turn, link: HostLink, found: Found, protocol: str
    ) -> StreamConsole:
        gone = self._forget(found.tags.desktop_id)
        if link.place.shows is Shows.SOCKET:
            path = await turn.do(link, lambda machines: machines.socket(found, protocol))
            stream = await link.connection.stream(path)
            return StreamConsole.through(stream, gone, protocol)
        if link.place.shows is Shows.CERTIFIED:
            port = await turn.do(link, lambda machines: machines.port(found))
            return StreamConsole.through(await link.connection.display(port), gone, protocol)
        connected = await turn.do(
            link, lambda machines: machines.display(found, protocol), unclaimed=socket.socket.close
        )
        return await StreamConsole.over(connected, gone, protocol)

    async def _addresses(
        self, turn: Turn, link: HostLink, found: Found, guest: Guest | None
    ) -> tuple[str, ...]:
        if link.place.agent is Agent.NONE:
            return await turn.do(link, lambda machines: machines.leases(found))
        return guest.state.addresses if guest and guest.state else ()

    def _forget(self, desktop_id: str) -> Callable[[StreamConsole], object]:
        return lambda one: self._open.get(desktop_id, {}).pop(one, None)

    def _keep(self, desktop_id: str, console: StreamConsole) -> Console:
        """It ends with its machine; of too many the oldest goes."""
        alike = [one for one in self._open[desktop_id] if one.protocol == console.protocol]
        spice = console.protocol == "spice"
        most = SPICE_CHANNELS_MAX + 1 if spice else CONSOLES_PER_MACHINE_MAX
        for one in alike[: max(0, len(alike) + 1 - most)]:
            one.end()
        self._open[desktop_id][console] = None
        return console

    def close(self, desktop_id: str) -> None:
        """All of one machine's."""
        for console in tuple(self._open.pop(desktop_id, ())):
            console.end()

    def close_all(self) -> None:
        for desktop_id in tuple(self._open):
            self.close(desktop_id)
