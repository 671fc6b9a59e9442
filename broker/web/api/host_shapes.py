"""Hosts as they are shown over HTTP."""

from __future__ import annotations

import msgspec

from broker.web.api.settings import HostSettingsBody
from broker.web.api.shapes import ResourcesShape


class SilenceShape(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing is heard of it since then, and why, as far as is known."""

    since: str
    why: str


class HostShape(msgspec.Struct, frozen=True, kw_only=True):
    """A host. `revision` goes up when what administrators say of it changes, not with its state.
    `used`: what its desktops take; `starting`: those being made or reset. `silent`: it
    should run and does not answer; null: it answers, or its engine does not tell."""

    id: str
    name: str
    engine: str
    profile: str
    state: str
    capacity: ResourcesShape
    used: ResourcesShape
    starting: int
    overcommit_cpu: float
    start_limit: int
    settings: HostSettingsBody
    revision: int
    deadline_at: str | None
    note: str
    silent: SilenceShape | None
