"""What becomes of a restored record, the same for every store.

Nothing that was given out before may work after: whoever held a desktop, a lease or a place in a
queue has to ask again.
"""

from __future__ import annotations

import hashlib
from collections import deque
from typing import Final

from broker.domain.lifecycle import DESKTOP, JOB, SESSION, Event, Lifecycle, State
from broker.domain.model import DesktopState, EndpointState, Instant, JobState, SessionState

RESTORED: Final = "the site was restored from a backup"
"""what sessions, desktops and jobs say that ended for it"""


RENEWED: Final = frozenset({"image-key"})
"""installation secrets with which something was sealed that was given out"""


def installation_secret(name: str, value: bytes, at: Instant) -> bytes:
    """The secret from then on: what was sealed with a renewed one is not known any more."""
    if name not in RENEWED:
        return value
    return hashlib.sha256(b"restored\0" + at.to_bytes(8) + value).digest()


def session_state(state: SessionState) -> SessionState:
    if state in SESSION.terminal:
        return state
    return SessionState.CANCELLED if state is SessionState.QUEUED else SessionState.FAILED


def desktop_state(state: DesktopState, *, on_endpoint: bool) -> DesktopState:
    """One that was being deleted still is, and its deadline is now: the engine is asked again."""
    if state in DESKTOP.terminal or state is DesktopState.DELETING:
        return state
    return DesktopState.UNAVAILABLE if on_endpoint else DesktopState.FAILED


def job_state(state: JobState) -> JobState:
    return state if state in JOB.terminal else JobState.CANCELLED


def endpoint_state(state: EndpointState) -> EndpointState:
    return EndpointState.OFFLINE if state is EndpointState.ONLINE else state


def state_before(lifecycle: Lifecycle[State, Event], state: State, target: State) -> State:
    """The last state on the shortest way from `state` to another one along the lifecycle.

    A stored row names the state before its own, and the pair must be one of the lifecycle's.

    Raises:
        ValueError: no way leads there.
    """
    waiting: deque[State] = deque([state])
    seen = {state}
    while waiting:
        here = waiting.popleft()
        for prior, following in lifecycle.edges():
            if prior != here or following in seen:
                continue
            if following == target:
                return here
            seen.add(following)
            waiting.append(following)
    raise ValueError(f"a {lifecycle.noun} does not get from {state} to {target}")
