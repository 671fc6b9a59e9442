"""One line for each request: JSON, in UTC, with who, what and how it ended; never a secret.

Neither the query nor headers nor bodies are in it, so no token and no password can be. What a
stranger chose (method, path) is escaped by the JSON encoder and cut.
"""

from __future__ import annotations

import logging
from typing import Final

import msgspec

from broker.ports import Clock
from broker.web.call import Call
from broker.web.encoding import encode, stamp

_log = logging.getLogger("trivium.access")

PATH_CHARS_MAX: Final = 256


class AccessRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a line holds. `took_ms` is the time until the answer was ready, or a stream ended."""

    at: str
    event: str
    request_id: str
    method: str
    path: str
    status: int
    took_ms: float
    address: str
    user: str = ""
    code: str = ""


class AccessLog:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def note(self, call: Call, status: int, code: str, took_s: float) -> None:
        if not _log.isEnabledFor(logging.INFO):
            return
        request = call.request
        record = AccessRecord(
            at=stamp(self._clock.now()),
            event="request",
            request_id=call.id,
            method=request.method[:PATH_CHARS_MAX],
            path=request.path[:PATH_CHARS_MAX],
            status=status,
            took_ms=round(took_s * 1000, 3),
            address=call.address,
            user=call.identity.username if call.identity is not None else "",
            code=code,
        )
        _log.info("%s", _text(record))


def _text(record: AccessRecord) -> str:
    try:
        return encode(record).decode()
    except UnicodeEncodeError:
        # a path whose bytes are no UTF-8 comes with surrogates
        return encode(
            msgspec.structs.replace(record, path=record.path.encode("ascii", "replace").decode())
        ).decode()
