"""States as the console shows them: a tone, and what each means in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from broker.architectures import rules_of
from broker.domain.model import Architecture, DesktopState, LogOff

TONES: Final[Mapping[str, Mapping[str, str]]] = {
    "desktop": {
        "planned": "busy",
        "creating": "busy",
        "starting": "busy",
        "ready": "good",
        "assigned": "good",
        "resetting": "busy",
        "suspending": "busy",
        "suspended": "off",
        "resuming": "busy",
        "parking": "busy",
        "parked": "wait",
        "unparking": "busy",
        "unavailable": "off",
        "failed": "bad",
        "deleting": "busy",
        "deleted": "off",
    },
    "session": {
        "queued": "wait",
        "delivering": "busy",
        "active": "good",
        "disconnected": "wait",
        "ending": "busy",
        "ended": "off",
        "failed": "bad",
        "cancelled": "off",
    },
    "shadow": {
        "asked": "wait",
        "allowed": "busy",
        "open": "good",
        "refused": "bad",
        "ended": "off",
    },
    "endpoint": {"enrolled": "off", "online": "good", "offline": "wait", "retired": "off"},
    "host": {
        "up": "good",
        "draining": "wait",
        "maintenance": "wait",
        "down": "bad",
        "off": "off",
        "powering_on": "busy",
        "powering_off": "busy",
        "retired": "off",
    },
    "snapshot": {
        "making": "busy",
        "ready": "good",
        "failed": "bad",
        "dropping": "busy",
        "dropped": "off",
    },
    "breaker": {
        "open": "bad",
        "half_open": "wait",
    },
    "job": {
        "queued": "wait",
        "running": "busy",
        "succeeded": "good",
        "failed": "bad",
        "cancelled": "off",
    },
    "campaign": {"running": "busy", "finished": "good", "failed": "bad"},
}
"""noun -> state -> tone: good, busy, wait, bad or off (the style sheet's words)"""

MEANINGS: Final[Mapping[str, Mapping[str, str]]] = {
    "desktop": {
        "planned": "wanted, not begun yet",
        "creating": "the engine makes the machine",
        "starting": "the machine boots",
        "ready": "free and fresh, to be given at once",
        "assigned": "a session has it",
        "resetting": "it is made fresh for the next person",
        "suspending": "being suspended, as a spare that takes no memory",
        "suspended": "a suspended spare; resumed when it is needed",
        "resuming": "a suspended spare comes back, or it starts again",
        "parking": "being suspended, for its person is away",
        "parked": "suspended with its person's session in it",
        "unparking": "it comes back, or starts again, for its person",
        "unavailable": "its endpoint is not connected",
        "failed": "it could not be made or made fresh; the broker clears it away",
        "deleting": "the machine is being removed",
        "deleted": "the machine is gone",
    },
    "session": {
        "queued": "waits for a desktop",
        "delivering": "has a desktop that is being brought up",
        "active": "the person has the desktop",
        "disconnected": "the person is away, the desktop is kept",
        "ending": "is being logged off",
        "ended": "is over, the desktop is released",
        "failed": "broke off",
        "cancelled": "left the queue",
    },
    "shadow": {
        "asked": "the person is asked",
        "allowed": "the person said yes; it is being opened",
        "open": "somebody of the staff sees the desktop",
        "refused": "the person said no, or nothing",
        "ended": "is over",
    },
    "endpoint": {
        "enrolled": "known, has not connected yet",
        "online": "connected",
        "offline": "not connected",
        "retired": "taken out for good",
    },
    "host": {
        "up": "takes desktops",
        "draining": "takes no new desktops",
        "maintenance": "worked on: takes nothing, and idle desktops leave it",
        "down": "does not answer",
        "off": "switched off until it is needed",
        "powering_on": "it is switched on",
        "powering_off": "it is switched off",
        "retired": "taken out; it has given up its machines",
    },
    "snapshot": {
        "making": "the engine writes it",
        "ready": "the desktop can be brought back to it",
        "failed": "it could not be made, or dropped; it can be dropped again",
        "dropping": "it is being removed",
        "dropped": "it is gone",
    },
    "breaker": {
        "open": "no machine of this pool is made here",
        "half_open": "one machine is let through, to see whether it works again",
    },
    "job": {
        "queued": "waits for its turn",
        "running": "the engine works on it",
        "succeeded": "done",
        "failed": "given up after the last attempt",
        "cancelled": "not wanted any more",
    },
    "campaign": {
        "running": "under way",
        "finished": "ended, its report is there",
        "failed": "broke off",
    },
}

PLACES: Final[Mapping[Architecture, str]] = {
    Architecture.VDI: "runs on servers",
    Architecture.IDV: "runs in the endpoint's hypervisor",
    Architecture.VOI: "boots on the endpoint itself",
}

LOG_OFF: Final[Mapping[LogOff, str]] = {
    LogOff.KEEP: "kept as the person left it",
    LogOff.RESET: "made fresh for the next person",
    LogOff.DELETE: "deleted; a new one is made",
}

_GROUPS: Final = (
    (
        "in-use",
        "in use",
        (
            DesktopState.ASSIGNED,
            DesktopState.PARKING,
            DesktopState.PARKED,
            DesktopState.UNPARKING,
        ),
    ),
    ("ready", "ready", (DesktopState.READY,)),
    (
        "preparing",
        "being prepared",
        (
            DesktopState.PLANNED,
            DesktopState.CREATING,
            DesktopState.STARTING,
            DesktopState.RESETTING,
            DesktopState.SUSPENDING,
            DesktopState.RESUMING,
            DesktopState.DELETING,
        ),
    ),
    ("suspended", "suspended", (DesktopState.SUSPENDED,)),
    ("away", "unavailable", (DesktopState.UNAVAILABLE,)),
    ("failed", "failed", (DesktopState.FAILED,)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StateGroup:
    """States that a person reads as one, with how many desktops are in them."""

    key: str
    words: str
    count: int


def desktop_groups(counts: Mapping[str, int]) -> tuple[StateGroup, ...]:
    """Counts by state as the five groups of the bars, in the bars' order."""
    return tuple(
        StateGroup(key=key, words=words, count=sum(counts.get(state, 0) for state in states))
        for key, words, states in _GROUPS
    )


def tone(noun: str, state: str) -> str:
    return TONES[noun][state]


def meaning(noun: str, state: str) -> str:
    return MEANINGS[noun][state]


def arch_title(architecture: Architecture) -> str:
    return rules_of(architecture).title
