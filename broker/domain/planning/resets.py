"""Machines that are to be made fresh take their turns: as many at once as their host may start.

A class that logs off at once would start all its machines at once. Those that wait have no
deadline; a host that does not run takes them all, for then their deadlines decide.
"""

from __future__ import annotations

from broker.domain.model import Resources
from broker.domain.placement import Demand, over_starts
from broker.domain.planning.commands import ResetDesktop
from broker.domain.planning.rooms import Rooms
from broker.domain.planning.view import RUNS, View

START = Demand(need=Resources(cpus=0.0, memory_mib=0))
"""it takes what it takes already, and one of the host's starts"""


def full_hosts(view: View) -> tuple[str, ...]:
    """Ids of hosts on which no reset may begin now: none that waits there needs to be read."""
    return tuple(
        load.host.id
        for load in view.hosts
        if load.host.state in RUNS and load.starting >= load.host.start_limit
    )


def begin_resets(view: View, rooms: Rooms) -> list[ResetDesktop]:
    """Those whose turn has come, longest waiting first."""
    commands: list[ResetDesktop] = []
    images = {pool.id: pool.image_id for pool in view.pools}
    for desktop in view.resets:
        room = rooms.by_id.get(desktop.host_id or "")
        if room is not None and room.host.state in RUNS:
            if over_starts(room, START):
                continue
            rooms.take(room.host.id, START)
        commands.append(ResetDesktop(desktop=desktop, image_id=images.get(desktop.pool_id)))
    return commands
