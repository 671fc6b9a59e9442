"""The display of a server as Nova hands it out: the address of its console proxy, with a token.

The answer is a secret, so nothing that logs requests gets to see it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from broker.domain.errors import EngineError, UnsupportedError

SINCE: Final = "2.6"
"""the microversion of Nova's API that has remote consoles (2015)"""
_NEVER: Final = {
    HTTPStatus.BAD_REQUEST: "the cloud hands out no VNC displays of this desktop",
    HTTPStatus.FORBIDDEN: "the cloud's account may not open displays",
    HTTPStatus.NOT_ACCEPTABLE: "the cloud is too old to hand out displays",
    HTTPStatus.NOT_IMPLEMENTED: "the cloud's hypervisor has no VNC displays",
}
_LATER: Final = {
    HTTPStatus.NOT_FOUND: "the machine is gone",
    HTTPStatus.CONFLICT: "the machine has no display at this moment",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Handed:
    """`page`: the proxy's, with the token. `verify`: how this cloud's own certificates are checked,
    as clouds.yaml says: by a file of authorities, by the usual ones, or (False) not."""

    page: str = field(repr=False)
    verify: bool | str


def hand_out(compute: Any, server_id: str) -> Handed:
    """Ask Nova for the display. Blocking. Raises UnsupportedError where it never will be."""
    answer = compute.post(
        f"/servers/{server_id}/remote-consoles",
        json={"remote_console": {"protocol": "vnc", "type": "novnc"}},
        microversion=SINCE,
        log=False,
    )
    code = answer.status_code
    if code in _NEVER:
        raise UnsupportedError(_NEVER[code])
    if code != HTTPStatus.OK:
        raise EngineError(_LATER.get(code, "the cloud handed out no display"))
    try:
        page = answer.json()["remote_console"]["url"]
    except (ValueError, LookupError, TypeError):
        page = None
    if not isinstance(page, str):
        raise EngineError("the cloud handed out no address of a display")
    verify = compute.session.verify
    return Handed(page=page, verify=verify if isinstance(verify, str) else verify is not False)
