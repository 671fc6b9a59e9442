"""The broker's API as one person uses it, over Locust's fast HTTP client. Runs under gevent.

Every call has a fixed name (for Locust's statistics), bounded tries again, and ends in a decoded
answer or in `CallError` with an error class from a closed set. Answers with 429 and 503 are
tried again after their Retry-After plus jitter; transport errors after a doubling pause, which
is safe because each call is idempotent (POST /sessions by its Idempotency-Key).
"""

from __future__ import annotations

import math
import random
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar

import gevent
import msgspec
from geventhttpclient.useragent import RetriesExceeded
from locust.contrib.fasthttp import FastHttpSession

from loadtests.limits import (
    POLL_WAIT_S,
    RETRIES_MAX,
    RETRY_AFTER_S_MAX,
    RETRY_PAUSE_S,
)
from loadtests.sight import SessionView

Answer = TypeVar("Answer")

LIVE: frozenset[str] = frozenset({"active"})
OVER: frozenset[str] = frozenset({"ended", "failed", "cancelled"})
_AGAIN: frozenset[int] = frozenset({429, 503})


class CallError(Exception):
    """A call that did not succeed. `error`: its class, e.g. `problem:admission.queue_full`."""

    def __init__(self, error: str, status: int) -> None:
        super().__init__(error)
        self.error = error
        self.status = status


class Connected(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of POST /sessions."""

    session: SessionView
    ticket: str | None = None


class _SignedIn(msgspec.Struct, frozen=True, kw_only=True):
    token: str


class _Problem(msgspec.Struct, frozen=True, kw_only=True):
    code: str


@dataclass(slots=True)
class Tally:
    """Requests made and tries again, for one arrival."""

    requests: int = 0
    retries: int = 0


def transport_error(error: BaseException | None) -> str:
    """The class of an error below HTTP: refused, reset, timeout, dns, tls or protocol."""
    if isinstance(error, RetriesExceeded):
        error = getattr(error, "original", None)
    kinds: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str], ...] = (
        (ConnectionRefusedError, "refused"),
        ((ConnectionResetError, BrokenPipeError, ConnectionAbortedError), "reset"),
        ((TimeoutError, gevent.Timeout), "timeout"),
        (socket.gaierror, "dns"),
        (ssl.SSLError, "tls"),
    )
    for kind, name in kinds:
        if isinstance(error, kind):
            return f"transport:{name}"
    return "transport:protocol"


class Client:
    """One person's connection to the broker. `draw` gives the jitter of tries again, of which
    none begins after `try_until`, an instant of `time.monotonic`."""

    def __init__(self, http: FastHttpSession, draw: random.Random) -> None:
        self._http = http
        self._draw = draw
        self._headers: dict[str, str] = {}
        self.tally = Tally()
        self.try_until = math.inf
        http.client.cookiejar = None

    @property
    def token(self) -> str:
        return self._headers.get("Authorization", "").removeprefix("Bearer ")

    def sign_in(self, username: str, password: str) -> None:
        body = {"username": username, "password": password}
        answer = self._call("POST", "/auth/login", "sign in", _SignedIn, body=body)
        self._headers["Authorization"] = f"Bearer {answer.token}"

    def connect(self, pool: str, endpoint: str | None, key: str) -> Connected:
        body, headers = _wanted(pool, endpoint, key)
        return self._call("POST", "/sessions", "connect", Connected, body=body, headers=headers)

    def connect_once(self, pool: str, endpoint: str | None, key: str) -> Connected | None:
        """Asks once, and None whatever goes wrong: for people who are interrupted."""
        _, error, content, _ = self._send(
            "POST", "/sessions", "connect", *_wanted(pool, endpoint, key)
        )
        if error is not None:
            return None
        try:
            return msgspec.json.decode(content, type=Connected)
        except msgspec.DecodeError:
            return None

    def session(self, session_id: str) -> SessionView:
        return self._call("GET", f"/sessions/{session_id}", "session", SessionView)

    def later(self, seen: SessionView) -> SessionView:
        """The session as soon as it is later than `seen`; after POLL_WAIT_S, or at `try_until`,
        as it is."""
        left_s = self.try_until - time.monotonic()
        wait_s = math.ceil(min(max(left_s, 1.0), POLL_WAIT_S))
        path = f"/sessions/{seen.id}?seen={seen.revision}&wait_s={wait_s}"
        return self._call("GET", path, "session (long poll)", SessionView)

    def log_off(self, session_id: str) -> SessionView:
        return self._call("DELETE", f"/sessions/{session_id}", "log off", SessionView)

    def log_off_once(self, session_id: str) -> None:
        """Asks once for the end, whatever comes of it: for people who are interrupted."""
        self._send("DELETE", f"/sessions/{session_id}", "log off", None, {})

    def look(self, call: str, session_id: str) -> SessionView | None:
        """One of the small calls that a person makes while at work (plan.CALLS)."""
        if call == "session":
            return self.session(session_id)
        path, name = {"pools": ("/me/pools", "my pools"), "me": ("/auth/me", "me")}[call]
        self._call("GET", path, name, msgspec.Raw)
        return None

    def close(self) -> None:
        self._http.client.close()

    def _call(
        self,
        method: str,
        path: str,
        name: str,
        into: type[Answer],
        *,
        body: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        for attempt in range(RETRIES_MAX + 1):
            status, error, content, retry_after = self._send(
                method, path, name, body, headers or {}
            )
            if error is None:
                try:
                    return msgspec.json.decode(content, type=into)
                except msgspec.DecodeError:
                    raise CallError("answer:not_understood", status) from None
            pause = self._pause(status, retry_after, attempt)
            if pause is None or attempt == RETRIES_MAX or time.monotonic() + pause > self.try_until:
                raise CallError(error, status)
            self.tally.retries += 1
            gevent.sleep(pause)
        raise AssertionError

    def _pause(self, status: int, retry_after: str | None, attempt: int) -> float | None:
        """How long to wait before the next try, in s; None: there is to be none."""
        if status and status not in _AGAIN:
            return None
        base: float = RETRY_PAUSE_S * 2**attempt
        if retry_after is not None:
            try:
                base = float(retry_after)
            except ValueError:
                return None
        if not 0 <= base <= RETRY_AFTER_S_MAX:
            return None
        return base + self._draw.uniform(0, max(base, RETRY_PAUSE_S))

    def _send(
        self,
        method: str,
        path: str,
        name: str,
        body: Mapping[str, str] | None,
        headers: Mapping[str, str],
    ) -> tuple[int, str | None, bytes, str | None]:
        """(status, error class or None, body, Retry-After) of one request."""
        self.tally.requests += 1
        payload = None if body is None else msgspec.json.encode(body).decode()
        sent = {**self._headers, **headers, "Accept": "application/json"}
        if payload is not None:
            sent["Content-Type"] = "application/json"
        with self._http.request(
            method,
            f"/api/v1{path}",
            name=name,
            data=payload,
            headers=sent,
            catch_response=True,
            allow_redirects=False,
        ) as answer:
            status = answer.status_code
            content: bytes = answer.content or b""
            if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
                answer.success()
                return status, None, content, None
            error = _error_of(status, content, answer)
            answer.failure(error)
            retry_after = answer.headers.get("Retry-After") if answer.headers else None
            return status, error, content, retry_after


def _wanted(
    pool: str, endpoint: str | None, key: str
) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """(body, headers) of a connect."""
    body = {"pool": pool} if endpoint is None else {"pool": pool, "endpoint": endpoint}
    return body, {"Idempotency-Key": key}


def _error_of(status: int, content: bytes, answer: Any) -> str:
    if not status:
        return transport_error(getattr(answer, "error", None))
    try:
        return f"problem:{msgspec.json.decode(content, type=_Problem).code}"
    except msgspec.DecodeError:
        return f"http:{status}"
