"""Engines' machines against the store's rows: what nobody should have, and what is gone.

An engine's list is older than the rows read after it, and either may be in the middle of a
change. So nothing is done about a desktop that changed after the list was asked for, and nothing
the first time it looks wrong: only what is still wrong in the next comparison.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from broker import limits
from broker.domain.model import Desktop, DesktopState, Instant
from broker.domain.planning.commands import (
    DiscardMachine,
    FailDesktop,
    SeenMachine,
    StrayCommand,
    Suspects,
)

HAS_MACHINE = frozenset(
    {
        DesktopState.STARTING,
        DesktopState.READY,
        DesktopState.ASSIGNED,
        DesktopState.SUSPENDED,
        DesktopState.PARKED,
    }
)
"""states in which the engine must know the machine; in others a job or a deadline sees to it"""
_RUNS = frozenset({DesktopState.READY, DesktopState.ASSIGNED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What is to be done, and what looks wrong for the first time."""

    commands: tuple[StrayCommand, ...]
    suspects: Suspects


def compare(
    seen: Sequence[SeenMachine],
    rows: Iterable[Desktop],
    *,
    listed_at: Instant,
    hosts: AbstractSet[str],
    before: Suspects,
) -> Comparison:
    """Compare the machines of engines with the rows read after their lists were complete.

    `rows`: those of every machine seen (also deleted ones), and all in HAS_MACHINE on the hosts
    that answered, `hosts`. `listed_at`: when the first list was asked for. At most
    STRAYS_MAX commands; the rest stays suspect and is handled in the next comparison.
    """
    by_id = {row.id: row for row in rows}
    places: dict[str, list[SeenMachine]] = {}
    for machine in seen:
        places.setdefault(machine.desktop_id, []).append(machine)
    wrong: list[StrayCommand] = [
        *_machines(seen, by_id, places, listed_at),
        *_rows(by_id.values(), places, hosts, listed_at),
    ]
    commands: list[StrayCommand] = []
    machines: set[tuple[str, str, int]] = set()
    desktops: set[tuple[str, int]] = set()
    for one in wrong:
        if _known(one, before) and len(commands) < limits.STRAYS_MAX:
            commands.append(one)
        if isinstance(one, DiscardMachine):
            machines.add(_key(one.machine))
        else:
            desktops.add((one.desktop.id, one.desktop.generation))
    suspects = Suspects(machines=frozenset(machines), desktops=frozenset(desktops), at=listed_at)
    return Comparison(commands=tuple(commands), suspects=suspects)


def _key(machine: SeenMachine) -> tuple[str, str, int]:
    return (machine.host_id, machine.desktop_id, machine.generation)


def _known(one: StrayCommand, before: Suspects) -> bool:
    if isinstance(one, DiscardMachine):
        return _key(one.machine) in before.machines
    return (one.desktop.id, one.desktop.generation) in before.desktops


def _machines(
    seen: Sequence[SeenMachine],
    rows: Mapping[str, Desktop],
    places: Mapping[str, Sequence[SeenMachine]],
    listed_at: Instant,
) -> Iterable[DiscardMachine]:
    """Machines that nobody should have."""
    for machine in seen:
        row = rows.get(machine.desktop_id)
        if row is None:
            yield DiscardMachine(machine=machine, why="no desktop of that id is known")
            continue
        if row.changed_at >= listed_at:
            continue
        why = _stray(machine, row, places[machine.desktop_id])
        if why is not None:
            yield DiscardMachine(machine=machine, why=why)


def _stray(machine: SeenMachine, row: Desktop, places: Sequence[SeenMachine]) -> str | None:
    if row.state is DesktopState.DELETED:
        return f"{row.name} was removed and its machine still exists"
    if machine.generation > row.generation:
        return (
            f"{row.name} is of generation {row.generation}, the machine of "
            f"{machine.generation}: made by a broker that the store knows nothing of"
        )
    if machine.generation < row.generation and any(
        other.generation == row.generation and other.host_id == machine.host_id for other in places
    ):
        return f"{row.name} has a machine of generation {row.generation}; this one is left over"
    elsewhere = row.state in HAS_MACHINE and machine.host_id not in {row.host_id, row.moving_to}
    if elsewhere and any(other.host_id == row.host_id for other in places):
        return f"{row.name} is on another host; this machine is left over"
    return None


def _rows(
    rows: Iterable[Desktop],
    places: Mapping[str, Sequence[SeenMachine]],
    hosts: AbstractSet[str],
    listed_at: Instant,
) -> Iterable[FailDesktop]:
    """Rows whose machine is gone or is not what they say."""
    for row in rows:
        places_of_row = {row.host_id, row.moving_to} - {None}
        if row.state not in HAS_MACHINE or row.changed_at >= listed_at:
            continue
        if not places_of_row or not places_of_row <= hosts:
            continue
        why = _lost(row, places.get(row.id, ()))
        if why is not None:
            yield FailDesktop(desktop=row, why=why)


def _lost(row: Desktop, places: Sequence[SeenMachine]) -> str | None:
    here = [one for one in places if one.host_id in {row.host_id, row.moving_to}]
    if not places:
        return "its machine is gone"
    if not here:
        return "its machine is on another host than it should be"
    newest = max(one.generation for one in here)
    if newest != row.generation:
        return f"its machine is of generation {newest}, it is of {row.generation}"
    if row.state in _RUNS and not any(one.running for one in here):
        return "its machine does not run"
    return None
