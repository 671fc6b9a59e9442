"""What support staff are shown: records with names for ids, and times in words."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionView:
    """One session with names for ids. `desktop` and `endpoint` are "" where there is none;
    `age` says how long ago it was asked for, in words."""

    id: str
    username: str
    pool: str
    architecture: str
    state: str
    desktop: str
    endpoint: str
    age: str
    why: str
    ends: str = ""
    """when its maximum time is over, in words; "" where it has none"""
    notice: str = ""
    """what its person was told last, and by whom"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DesktopView:
    name: str
    pool: str
    state: str
    place: str
    """its host or endpoint"""
    generation: int
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointView:
    name: str
    kind: str
    state: str
    location: str
    seen: str
    """how long ago it gave a sign of life, in words"""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostView:
    """`cpus` and `memory`: what is given out, of how much; `starting`: desktops on their way up,
    of how many at once."""

    name: str
    state: str
    engine: str
    cpus: str
    memory: str
    starting: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionView:
    """One decision, newest first. `reasons`: one by one; `by`: a name, "broker" or ""."""

    age: str
    text: str
    reasons: tuple[str, ...]
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolPreviewView:
    """One pool for one person. `now`: what a connect would give, "" where it is refused."""

    pool: str
    may: bool
    now: str
    quotas: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewView:
    username: str
    enabled: bool
    pools: tuple[PoolPreviewView, ...]
