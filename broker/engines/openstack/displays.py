"""The displays that are open of this process's clouds, by desktop: each ends with its machine."""

from __future__ import annotations

from collections import defaultdict

from broker.engines.openstack.consoles import Handed
from broker.engines.reach.novnc import ConsoleProxies, ProxiedConsole
from broker.limits import CONSOLES_PER_MACHINE_MAX


class Displays:
    def __init__(self) -> None:
        self._proxies = ConsoleProxies()
        self._open: defaultdict[str, dict[ProxiedConsole, None]] = defaultdict(dict)

    async def open(self, desktop_id: str, handed: Handed) -> ProxiedConsole:
        """It ends with its machine; of too many the oldest goes. Raises ConsoleProxyError."""

        def gone(one: ProxiedConsole) -> None:
            self._open.get(desktop_id, {}).pop(one, None)

        console = await self._proxies.open(handed.page, gone, verify=handed.verify)
        others = self._open[desktop_id]
        for one in tuple(others)[: max(0, len(others) + 1 - CONSOLES_PER_MACHINE_MAX)]:
            one.end()
        others[console] = None
        return console

    def end(self, desktop_id: str) -> None:
        for console in tuple(self._open.pop(desktop_id, ())):
            console.end()

    async def close(self) -> None:
        for desktop_id in tuple(self._open):
            self.end(desktop_id)
        await self._proxies.close()
