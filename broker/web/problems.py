"""Errors as `application/problem+json` (RFC 9457), and the one map from codes to statuses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from aiohttp import web
from multidict import CIMultiDict

from broker.domain import errors
from broker.domain.errors import TriviumError
from broker.ports import PartialListError
from broker.web.encoding import encode

STATUSES: Final[Mapping[type[TriviumError], int]] = {
    errors.TriviumError: 500,
    errors.BadRequestError: 400,
    errors.ProtocolError: 400,
    errors.NotSignedInError: 401,
    errors.BadCredentialsError: 401,
    errors.ForbiddenError: 403,
    errors.BadOriginError: 403,
    errors.NotEntitledError: 403,
    errors.DeniedByRuleError: 403,
    errors.BadTicketError: 403,
    errors.BadEnrolmentError: 403,
    errors.BadProofError: 403,
    errors.NotFoundError: 404,
    errors.SetupClosedError: 404,
    errors.MethodNotAllowedError: 405,
    errors.ConflictError: 409,
    errors.AlreadyExistsError: 409,
    errors.PoolClosedError: 409,
    errors.ElsewhereError: 409,
    errors.SiteClosedError: 409,
    errors.OverQuotaError: 409,
    errors.WrongEndpointError: 409,
    errors.IllegalTransitionError: 409,
    errors.HostRefusedError: 409,
    errors.NoHostFitsError: 409,
    errors.DesktopInUseError: 409,
    errors.ImageInUseError: 409,
    errors.HostHoldsWorkError: 409,
    errors.HostOccupiedError: 409,
    errors.SnapshotRefusedError: 409,
    errors.BrokenChainError: 409,
    errors.StaleGenerationError: 409,
    errors.UnsupportedError: 409,
    errors.BadProfileError: 409,
    errors.BodyTooLargeError: 413,
    errors.BadMediaTypeError: 415,
    errors.MisdirectedError: 421,
    errors.IdempotencyMismatchError: 422,
    errors.BadImageError: 422,
    errors.RosterError: 422,
    errors.BadBackupError: 422,
    errors.TooManyAttemptsError: 429,
    errors.ConfigError: 500,
    errors.EngineError: 502,
    PartialListError: 502,
    errors.HostUnreachableError: 502,
    errors.NotHereError: 502,
    errors.ConsoleProxyError: 502,
    errors.GuestRefusedError: 502,
    errors.QueueFullError: 503,
    errors.ResumingError: 503,
    errors.BusyError: 503,
    errors.UnavailableError: 503,
    errors.GuestSilentError: 504,
}

TYPE_PREFIX: Final = "urn:trivium:error:"
CONTENT_TYPE: Final = "application/problem+json"
_RETRY_S: Final = 1.0
"""what a caller is told who may come back when nobody said after how long"""
_OWN_MEMBERS: Final = frozenset(
    {"type", "title", "status", "detail", "instance", "code", "request_id", "advice"}
)


class Problem(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """An error. Some codes have further members, such as `field` or `problems`."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str
    advice: str


def status_of(error: TriviumError) -> int:
    """The error's status; that of its nearest listed base for a type that is not listed."""
    for kind in type(error).__mro__:
        if kind in STATUSES:
            return STATUSES[kind]
    return 500


def problem_fields(error: TriviumError, *, request_id: str, path: str) -> dict[str, Any]:
    """The members of the problem, the error's own fields after the standard ones."""
    members: dict[str, Any] = {
        "type": TYPE_PREFIX + error.code,
        "title": error.title,
        "status": status_of(error),
        "detail": error.detail,
        "instance": path,
        "code": error.code,
        "request_id": request_id,
        "advice": error.advice,
    }
    members.update(
        (name, value) for name, value in error.fields.items() if name not in _OWN_MEMBERS
    )
    if error.retry_after_s is not None:
        members["retry_after_s"] = round(error.retry_after_s, 3)
    return members


def problem_headers(error: TriviumError, status: int) -> dict[str, str]:
    """Retry-After in whole seconds, and what a 401 must say."""
    found: dict[str, str] = {}
    if error.retry_after_s is not None or status in {429, 503}:
        pause_s = error.retry_after_s if error.retry_after_s is not None else _RETRY_S
        found["Retry-After"] = str(max(1, math.ceil(pause_s)))
    if status == web.HTTPUnauthorized.status_code:
        found["WWW-Authenticate"] = 'Bearer realm="trivium"'
    return found


def problem_response(
    error: TriviumError, *, request_id: str, path: str, headers: CIMultiDict[str]
) -> web.Response:
    """The answer for an error. `headers` are taken over and added to."""
    members = problem_fields(error, request_id=request_id, path=path)
    headers.update(problem_headers(error, members["status"]))
    headers["Content-Type"] = CONTENT_TYPE
    return web.Response(body=encode(members), status=members["status"], headers=headers)
