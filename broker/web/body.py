"""The one reader of JSON bodies: whatever is sent, the answer is 400, 413 or 415, never 500.

Taken is `application/json` in UTF-8 without Content-Encoding, within a size and a depth, with
every key once, numbers that every reader reads alike (no NaN, no Infinity, whole numbers within
2^53: RFC 7493), text that can be stored (no lone surrogates, no NUL), and no field that the
address does not know.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec
from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from broker.domain.errors import BadMediaTypeError, BadRequestError, BodyTooLargeError
from broker.limits import JSON_DEPTH_MAX
from broker.web.guard import GuardedConnection
from broker.web.wording import refusal

_WHOLE_MAX: Final = 2**53
_WHOLE_CHARS_MAX: Final = 17
_KEY_CHARS_MAX: Final = 120
_PLAIN_TYPE: Final = "application/json"
_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]").search


class _RefusedError(ValueError):
    """What is wrong, as the end of a sentence that begins with "the body"."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _RefusedError(f"has the key {twice[:_KEY_CHARS_MAX]!r} twice")
    return found


def _whole(text: str) -> int:
    if len(text) > _WHOLE_CHARS_MAX or abs(number := int(text)) > _WHOLE_MAX:
        raise _RefusedError("has a whole number beyond 2^53")
    return number


def _broken(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _RefusedError("has a number that is too large")
    return number


def _constant(text: str) -> float:
    raise _RefusedError(f"has {text}, which is not JSON")


_decode: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_whole, parse_float=_broken, parse_constant=_constant
).decode


def _check_depth(value: Any, room: int) -> None:
    """Raises _RefusedError for lists and objects nested more than `room` deep."""
    if isinstance(value, dict):
        inner: Any = value.values()
    elif isinstance(value, list):
        inner = value
    else:
        return
    if room == 0:
        raise _RefusedError(f"is nested more than {JSON_DEPTH_MAX} deep")
    for one in inner:
        if isinstance(one, dict | list):
            _check_depth(one, room - 1)


def _check_text(value: Any) -> None:
    """Raises _RefusedError for text that no database or terminal takes."""
    if isinstance(value, str):
        if _UNSTORABLE(value):
            raise _RefusedError("has a NUL or half a surrogate pair in a text")
    elif isinstance(value, dict):
        for key, one in value.items():
            _check_text(key)
            _check_text(one)
    elif isinstance(value, list):
        for one in value:
            _check_text(one)


def parse_json(raw: bytes) -> Any:
    """The value, as plain dicts, lists and scalars.

    Raises:
        BadRequestError: saying what is wrong with it.
    """
    try:
        value = _decode(raw.decode())
        _check_depth(value, JSON_DEPTH_MAX)
        if b"\\u" in raw:
            # only an escape can bring them in: raw ones are refused as bad UTF-8 and bad JSON
            _check_text(value)
    except _RefusedError as error:
        raise BadRequestError(f"the body {error}") from None
    except UnicodeDecodeError as error:
        raise BadRequestError(f"the body is not UTF-8 (byte {error.start})") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise BadRequestError(f"the body is not JSON ({where})") from None
    except RecursionError:
        raise BadRequestError(f"the body is nested more than {JSON_DEPTH_MAX} deep") from None
    return value


def convert(value: Any, kind: Any) -> Any:
    """The value as a struct. Raises BadRequestError naming the field."""
    try:
        return msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError as error:
        field, says = refusal(error, kind)
        text = f"{field or 'the body'}: {says}"
        raise BadRequestError(text, fields={"field": field}) from None


def has_body(request: web.Request) -> bool:
    """Whether the client sent one, be it empty."""
    return request.headers.get(hdrs.CONTENT_LENGTH, "0") != "0" or (
        hdrs.TRANSFER_ENCODING in request.headers
    )


def check_type(request: web.Request) -> None:
    """Raises BadMediaTypeError."""
    if hdrs.CONTENT_ENCODING in request.headers:
        raise BadMediaTypeError("the body has a Content-Encoding")
    given = request.headers.getall(hdrs.CONTENT_TYPE, ())
    if len(given) == 1 and given[0] == _PLAIN_TYPE:
        return
    if len(given) == 1:
        kind, *rest = (part.strip().lower() for part in given[0].split(";"))
        if kind == _PLAIN_TYPE and all(
            one in {"charset=utf-8", 'charset="utf-8"'} for one in rest if one
        ):
            return
    raise BadMediaTypeError


def check_upload(request: web.Request, media_type: str) -> None:
    """Raises BadMediaTypeError for a body that is not plainly of this type."""
    given = [one.strip().lower() for one in request.headers.getall(hdrs.CONTENT_TYPE, ())]
    if hdrs.CONTENT_ENCODING in request.headers or given != [media_type]:
        raise BadMediaTypeError(f"an upload is {media_type}, without a Content-Encoding")


async def read_upload(request: web.Request) -> AsyncIterator[bytes]:
    """The body in pieces, as it comes; whoever takes them limits how many.

    Raises:
        BadRequestError: its framing is broken. ConnectionError: the client went away.
    """
    if isinstance(request.protocol, GuardedConnection):
        request.protocol.begin_upload()
    try:
        while piece := await request.content.readany():
            yield piece
    except (web.RequestPayloadError, HttpProcessingError) as error:
        raise BadRequestError("the body's framing is broken") from error


async def read_bytes(request: web.Request, bytes_max: int) -> bytes:
    """The body, of at most `bytes_max` bytes.

    Raises:
        BodyTooLargeError: it is larger. BadRequestError: its framing is broken.
        ConnectionError: the client went away.
    """
    length = request.content_length
    if length is not None and length > bytes_max:
        raise _too_large(bytes_max)
    pieces: list[bytes] = []
    room = bytes_max
    try:
        while piece := await request.content.readany():
            room -= len(piece)
            if room < 0:
                raise _too_large(bytes_max)
            pieces.append(piece)
    except (web.RequestPayloadError, HttpProcessingError) as error:
        raise BadRequestError("the body's framing is broken") from error
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _too_large(bytes_max: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"the body is larger than {bytes_max} bytes")


async def read_json(request: web.Request, kind: Any, bytes_max: int) -> Any:
    """The body as a struct of this kind. Raises as `check_type`, `read_bytes`, `parse_json`."""
    check_type(request)
    return convert(parse_json(await read_bytes(request, bytes_max)), kind)
