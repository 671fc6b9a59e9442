"""Audit entries as sentences that a help desk can read aloud."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from broker.domain.audit import AuditEntry, Outcome

WORDS: Final[Mapping[str, str]] = {
    "breaker.close": "Machines are made again",
    "breaker.reset": "What failed there is forgotten",
    "breaker.open": "No machines are made for a while",
    "desktop.clear": "The desktop was removed",
    "desktop.assign": "The desktop was given to its person for good",
    "desktop.delete": "The desktop was removed by an administrator",
    "desktop.fail": "The desktop failed",
    "desktop.recover": "The desktop is used again as it is",
    "desktop.snapshot": "A snapshot of the desktop was taken",
    "desktop.revert": "The desktop was brought back to a snapshot",
    "desktop.drop_snapshot": "A snapshot of the desktop was dropped",
    "desktop.restart": "The desktop was switched off and on again",
    "desktop.reset": "The desktop was made fresh for an administrator",
    "desktop.unassign": "The desktop is not its person's any more",
    "desktop.expire": "The desktop took too long",
    "desktop.freshen": "The desktop was made fresh",
    "desktop.make": "The desktop was made",
    "desktop.migrate": "The desktop moved to another host",
    "desktop.move": "The desktop moves to another host for an administrator",
    "desktop.park": "The desktop was suspended with its session",
    "desktop.resize": "The desktop was resized",
    "desktop.resume": "The desktop was resumed",
    "desktop.suspend": "The desktop was suspended",
    "endpoint.enrol": "The endpoint was enrolled",
    "endpoint.make_tokens": "Enrolment tokens were made",
    "endpoint.retire": "The endpoint was retired",
    "guest.lock": "The agent in the desktop was to lock the screen",
    "guest.log_off": "The agent in the desktop was to log the person off",
    "guest.message": "The agent in the desktop was to show the message",
    "guest.policy": "The agent in the desktop was to lay down the policy",
    "host.change": "The host was changed",
    "host.create": "The host was added",
    "host.drain": "The host takes nothing new",
    "host.expire": "The host took too long",
    "host.maintain": "The host is under maintenance",
    "host.open": "The host was opened",
    "host.heard": "The host answers again",
    "host.lost": "The host was given up",
    "host.silent": "The host does not answer",
    "host.retire": "The host was retired",
    "host.power_off": "The host was switched off",
    "host.power_on": "The host was switched on",
    "machine.drift": "The machine was compared with what it should be",
    "pool.change": "The pool was changed",
    "pool.create": "The pool was added",
    "pool.drain": "The pool takes nobody new",
    "pool.maintain": "The pool is under maintenance",
    "pool.no_room": "No desktop could be made",
    "pool.open": "The pool was opened",
    "session.cancelled": "The request was given up",
    "session.claimed": "A desktop was given",
    "session.connect": "Asked for a desktop",
    "session.deadline_passed": "Time ran out",
    "session.disconnect": "Asked to disconnect",
    "session.disconnected": "The session was disconnected",
    "session.consent": "The person at the first place answered",
    "session.extend": "The session may last longer",
    "session.failed": "The session failed",
    "session.finished": "The session is over",
    "session.lease_renewed": "The lease was renewed",
    "session.lock": "The screen was to be locked",
    "session.log_off": "The session is being logged off",
    "session.message": "A message was sent to the person",
    "session.noted": "The session was changed",
    "session.reconnected": "The session was connected again",
    "session.reported_live": "The session is live",
    "session.taken_over": "The session moved to another place",
    "shadow.ask": "The support asked to see the desktop",
    "shadow.answer": "The person answered who asks to see the desktop",
    "shadow.allow": "The support may see the desktop",
    "shadow.refuse": "The support may not see the desktop",
    "shadow.ticket": "The support opens what was allowed",
    "shadow.begin": "The support sees the desktop",
    "shadow.end": "The support does not see the desktop any more",
}
"""what happened, for each action; another action is told by its own words"""

_GIVEN: Final = re.compile(r"^given (?P<desktop>[^:]+): (?P<because>.+)$", re.DOTALL)
_LEADS: Final[Mapping[str, str]] = {
    "waits": "{who} had to wait: {rest}",
    "refused": "{who} got no desktop: {rest}",
    "asked": "{who} had to wait: {rest}",
}


def sentence(entry: AuditEntry, who: str) -> str:
    """What happened and why. `who`: the person that a session is of ("you", or a name)."""
    if entry.action == "session.connect":
        return _upper(_connect(entry, who)) + "."
    happened = WORDS.get(entry.action) or _plain(entry.action)
    if entry.outcome in {Outcome.REFUSED, Outcome.FAILED}:
        happened = f"{happened}, but that was {entry.outcome}"
    elif entry.outcome is Outcome.UNKNOWN:
        happened = f"{happened}, as far as is known"
    why = entry.why.removeprefix(f"{entry.outcome}: ").rstrip(".")
    return f"{happened}: {why}." if why and why != "done" else f"{happened}."


def _connect(entry: AuditEntry, who: str) -> str:
    was = "were" if who == "you" else "was"
    given = _GIVEN.match(entry.why)
    if given is not None:
        desktop, because = given["desktop"], given["because"]
        verb = "it is" if because.startswith("it is ") else "it was"
        return f"{who} {was} given {desktop} because {verb} {because.removeprefix('it is ')}"
    lead, colon, rest = entry.why.partition(": ")
    if colon and lead in _LEADS:
        return _LEADS[lead].format(who=who, rest=rest)
    return f"{who} asked for a desktop: {entry.why}"


def _plain(action: str) -> str:
    return _upper(action.replace(".", ": ", 1).replace("_", " "))


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def reasons(entry: AuditEntry) -> tuple[str, ...]:
    """The reasons that were kept with it, one by one."""
    kept = entry.details.get("reasons")
    return tuple(str(one) for one in kept) if isinstance(kept, list | tuple) else ()
