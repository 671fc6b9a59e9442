"""A host's classes of storage: what its profile names, and what the host was found to have."""

from __future__ import annotations

from typing import Final

from broker.domain.storage import OWN, SAME, StorageClass
from broker.engines.libvirt.capabilities import Capabilities, PoolRoom
from broker.engines.libvirt.knobs import ClassKnob, Place, Storage
from broker.engines.libvirt.pool_kinds import POOL_KINDS, no_kind

_GIB: Final = 1 << 30
_COST_UNKNOWN: Final = 1.0
"""of a class whose kind no host has said yet, and whose administrator gave none"""


def classes(place: Place, found: Capabilities | None) -> dict[str, StorageClass]:
    """By name, that of pools which name none among them; empty where the profile names none.
    `found` None: the host has not said anything yet."""
    if not place.classes:
        return {}
    shared = SAME if place.storage is Storage.SHARED else ""
    own = _class(ClassKnob(name=OWN, pool=place.pool, cost=0.0), place, found, shared)
    named = {
        knob.name: _class(knob, place, found, SAME if knob.shared else "") for knob in place.classes
    }
    return {OWN: own} | named


def _class(knob: ClassKnob, place: Place, found: Capabilities | None, shared: str) -> StorageClass:
    room = found.pool(knob.pool) if found is not None else None
    kind = POOL_KINDS.get(room.kind) if room is not None else None
    cost = knob.cost
    if cost is None:
        cost = kind.cost if kind is not None else _COST_UNKNOWN
    if shared and knob.name:
        # a machine that moves names the pool, so it has to have that name there, too
        shared = f"{shared}: {knob.pool}"
    elif room is not None and kind is not None and kind.shared and room.source and not shared:
        shared = f"{room.kind} {room.source}, as {room.name}"
    told = room is not None and room.running and not room.silent
    return StorageClass(
        name=knob.name,
        cost=cost,
        place=knob.pool,
        kind=room.kind if room is not None else "",
        capacity=room.capacity if room is not None and told else None,
        available=room.available if room is not None and told else None,
        whole=kind is not None and kind.whole,
        shared=shared,
        refuses=_refuses(knob, place, room) if found is not None else "",
    )


def _refuses(knob: ClassKnob, place: Place, room: PoolRoom | None) -> str:
    if room is None:
        return f"there is no storage pool {knob.pool}"
    if room.silent:
        return f"the storage pool {knob.pool} does not answer"
    kind = POOL_KINDS.get(room.kind)
    if kind is None:
        return no_kind(room.kind)
    if not room.running:
        return f"the storage pool {knob.pool} is not running"
    return kind.refusal(place.kind, place.clone)


def describe_class(one: StorageClass) -> str:
    """In words, what a class is and how full."""
    sort = POOL_KINDS[one.kind].title if one.kind in POOL_KINDS else "not known yet"
    text = f"the storage pool {one.place}, {sort}; cost {one.cost:g}"
    if one.capacity is not None and one.available is not None:
        free, total = one.available / _GIB, one.capacity / _GIB
        text += f"; {free:.1f} of {total:.1f} GiB free"
    return text + ("; shared with hosts that have the same" if one.shared else "")
