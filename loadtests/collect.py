"""The broker's own records, read over its API after a campaign, and its resource use during it."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from datetime import datetime
from http import HTTPStatus
from typing import TypeVar
from urllib.parse import urlencode

import msgspec
import urllib3
from prometheus_client.parser import text_string_to_metric_families

from loadtests.limits import CONNECT_S, PAGE_LIMIT, PAGES_MAX, REQUEST_S, SETTLE_LOOK_S
from loadtests.records import EndpointPhase, TrafficBytes

Answer = TypeVar("Answer")

OVER = frozenset({"ended", "failed", "cancelled"})


class BrokerError(Exception):
    """The broker's records could not be read; the text says why."""


class Named(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    name: str = ""
    username: str = ""


class BrokerSession(msgspec.Struct, frozen=True, kw_only=True):
    """A session as the broker's records have it; unknown fields are ignored."""

    id: str
    user: Named
    pool: Named
    architecture: str
    state: str
    requested_at: datetime
    desktop: Named | None = None
    endpoint: Named | None = None
    assigned_at: datetime | None = None
    live_at: datetime | None = None
    ended_at: datetime | None = None
    phases: tuple[EndpointPhase, ...] = ()
    traffic: TrafficBytes = TrafficBytes()

    @property
    def over(self) -> bool:
        return self.state in OVER


class _Page(msgspec.Struct, frozen=True, kw_only=True):
    items: tuple[BrokerSession, ...]
    next: str | None = None


class BrokerUse(msgspec.Struct, frozen=True, kw_only=True):
    """CPU seconds since its start and resident memory of the broker's process."""

    cpu_s: float
    rss_bytes: float


class Broker:
    """Reads what an administrator or auditor may read. Not for use under gevent."""

    def __init__(self, url: str, token: str | None) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Accept": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._http = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=CONNECT_S, read=REQUEST_S),
            retries=urllib3.Retry(
                4,
                redirect=0,
                backoff_factor=0.2,
                status_forcelist={429, 503},
                raise_on_status=False,
                raise_on_redirect=False,
            ),
        )

    def sessions(self) -> Iterator[BrokerSession]:
        """Every session that the broker knows, page by page.

        Raises:
            BrokerError: refused, not answered, not understood, or more than PAGES_MAX pages.
        """
        query = {"limit": str(PAGE_LIMIT)}
        for _ in range(PAGES_MAX):
            status, body = self._get(f"/api/v1/sessions?{urlencode(query)}")
            if status != HTTPStatus.OK:
                raise BrokerError(f"the list of sessions was answered with status {status}")
            page = _decode(body, _Page)
            yield from page.items
            if page.next is None:
                return
            query["after"] = page.next
        raise BrokerError(f"the list of sessions is longer than {PAGES_MAX} pages")

    def session(self, session_id: str) -> BrokerSession | None:
        """One session; None if the broker does not know it."""
        status, body = self._get(f"/api/v1/sessions/{session_id}")
        if status == HTTPStatus.NOT_FOUND:
            return None
        if status != HTTPStatus.OK:
            raise BrokerError(f"a session was answered with status {status}")
        return _decode(body, BrokerSession)

    def use(self) -> BrokerUse | None:
        """What /metrics says of the process; None where it says nothing."""
        try:
            status, body = self._get("/metrics")
            if status != HTTPStatus.OK:
                return None
            values = {
                sample.name: sample.value
                for family in text_string_to_metric_families(body.decode())
                for sample in family.samples
                if not sample.labels
            }
            return BrokerUse(
                cpu_s=values["process_cpu_seconds_total"],
                rss_bytes=values.get("process_resident_memory_bytes", 0.0),
            )
        except (BrokerError, KeyError, ValueError):
            return None

    def _get(self, path: str) -> tuple[int, bytes]:
        try:
            answer = self._http.request("GET", self._url + path, headers=self._headers)
        except urllib3.exceptions.HTTPError as error:
            raise BrokerError("the broker does not answer") from error
        return answer.status, answer.data


def _decode(body: bytes, into: type[Answer]) -> Answer:
    try:
        return msgspec.json.decode(body, type=into)
    except msgspec.DecodeError as error:
        raise BrokerError("the broker's answer is not understood") from error


def settled_sessions(
    broker: Broker,
    ids: Collection[str],
    usernames: Collection[str],
    since_ms: float,
    settle_s: float,
) -> tuple[BrokerSession, ...]:
    """The broker's records of a campaign, once they are at rest or `settle_s` has passed.

    Of the campaign are the sessions named by `ids` and those that people of `usernames` asked
    for since `since_ms` (ms since the epoch): an answer may have been lost on its way.
    """
    until = time.monotonic() + settle_s
    waiting = set(ids)
    while waiting and time.monotonic() < until:
        known = {session_id: broker.session(session_id) for session_id in sorted(waiting)}
        waiting = {name for name, found in known.items() if found is not None and not found.over}
        if waiting:
            time.sleep(SETTLE_LOOK_S)
    return tuple(
        session
        for session in broker.sessions()
        if session.id in ids
        or (
            session.user.username in usernames
            and session.requested_at.timestamp() * 1000 >= since_ms
        )
    )
