"""What a fleet is doing, in numbers, and the line that says so."""

from __future__ import annotations

from collections import Counter

import msgspec

from agents.core import commands


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """One progress line. Bytes and counts are since the process began, the rest is now.

    `sessions` and `failures` are by architecture and by code. `notices` are messages shown to
    people, `granted` and `kept` their answers to whether a session may move. `lost` are links
    that were up and ended, `retries` pauses before another try. `faults` are errors of the agent
    itself: 0.
    """

    at_s: float
    endpoints: int
    connected: int
    stopped: int
    sessions: dict[str, int]
    begun: int
    over: int
    failures: dict[str, int]
    fresh: int
    notices: int
    granted: int
    kept: int
    lost: int
    retries: int
    faults: int
    control_bytes: int
    display_bytes: int
    image_bytes: int


class Tally:
    """Counts for one process."""

    __slots__ = (
        "connected",
        "control_bytes",
        "counts",
        "display_bytes",
        "endpoints",
        "failures",
        "faults",
        "image_bytes",
        "live",
        "stopped",
    )

    def __init__(self) -> None:
        self.endpoints = 0
        self.connected = 0
        self.stopped = 0
        self.faults = 0
        self.live: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.control_bytes = 0
        self.display_bytes = 0
        self.image_bytes = 0

    def note(self, note: commands.Note) -> None:
        self.counts[note.what] += 1
        match note.what:
            case "up":
                self.connected += 1
            case "down":
                self.connected -= 1
            case "live":
                self.live[note.architecture] += 1
            case "away":
                self.live[note.architecture] -= 1
            case "failed":
                self.failures[note.code] += 1
            case _:
                pass

    def snapshot(self, at_s: float) -> Snapshot:
        return Snapshot(
            at_s=round(at_s, 1),
            endpoints=self.endpoints,
            connected=self.connected,
            stopped=self.stopped,
            sessions={name: self.live[name] for name in ("vdi", "idv", "voi")},
            begun=self.counts["begun"],
            over=self.counts["over"],
            failures=dict(sorted(self.failures.items())),
            fresh=self.counts["fresh"],
            notices=self.counts["notice"],
            granted=self.counts["granted"],
            kept=self.counts["kept"],
            lost=self.counts["down"],
            retries=self.counts["retry"],
            faults=self.faults,
            control_bytes=self.control_bytes,
            display_bytes=self.display_bytes,
            image_bytes=self.image_bytes,
        )


def line(snapshot: Snapshot) -> str:
    """The snapshot for people."""
    live = " ".join(f"{name} {count}" for name, count in snapshot.sessions.items())
    failed = sum(snapshot.failures.values())
    return (
        f"{snapshot.at_s:8.1f} s  connected {snapshot.connected}/{snapshot.endpoints}"
        f"  sessions {live}  begun {snapshot.begun} over {snapshot.over} failed {failed}"
        f"  lost links {snapshot.lost}  MiB control {_mib(snapshot.control_bytes)}"
        f" display {_mib(snapshot.display_bytes)} image {_mib(snapshot.image_bytes)}"
    )


def _mib(count: int) -> str:
    return f"{count / (1 << 20):.1f}"
