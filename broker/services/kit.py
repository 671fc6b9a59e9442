"""What nearly every service needs, in one hand: the store, time, ids, chance and events."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from broker.domain.names import fold_username
from broker.ports import Chance, Clock, Events, Ids, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    store: Store
    clock: Clock
    ids: Ids
    chance: Chance
    events: Events
    installation_id: str


def name_key(text: str) -> str:
    """A user name as it is stored and compared: trimmed, NFC, lower case."""
    return fold_username(text)


def installation_id_of(secret: bytes) -> str:
    """The name that agents pin and machines are tagged with; told from the stored secret."""
    return "tri_" + hashlib.sha256(secret).hexdigest()[:24]
