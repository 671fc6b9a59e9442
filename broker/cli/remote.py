"""The broker's API as commands use it: addresses, tokens, pages, and errors made readable."""

from __future__ import annotations

import asyncio
import functools
import json
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlsplit

import aiohttp
import click

from broker.cli.errors import CommandError, unreachable
from broker.config import Address, parse_address
from broker.domain.errors import BusyError
from broker.limits import PAGE_LIMIT_MAX

Result = TypeVar("Result")

URL_DEFAULT: Final = "http://127.0.0.1:8080"
CONNECT_S: Final = 5.0
"""to open a connection to the broker"""
ANSWER_S: Final = 120.0
"""for one whole answer: an import of 8 MiB takes seconds"""
UPLOAD_ANSWER_S: Final = 4000.0
"""for the broker to examine an upload, and to turn it into qcow2"""
ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024
"""one answer"""
LINE_BYTES_MAX: Final = 256 * 1024
"""one line of an answer that is read line by line"""
BUSY_TRIES_MAX: Final = 20
"""tries of one call while the broker says that it is busy"""
BUSY_PAUSE_S_MAX: Final = 5.0
"""longest wait before such a call is tried again"""
HTTP_ERROR: Final = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Where the broker is, by which token we speak to it, and where we keep things."""

    url: str
    token: str
    data: Path


def remote_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --url, --token and --data to a command; it gets them as one `access` argument."""

    @functools.wraps(command)
    def with_access(*args: Any, url: str | None, token: str | None, data: Path, **rest: Any) -> Any:
        return command(*args, access=access_to(url, token, data), **rest)

    made: Callable[..., Any] = with_access
    for option in (
        click.option(
            "--data",
            envvar="TRIVIUM_DATA",
            default="var",
            type=click.Path(path_type=Path, file_okay=False),
            help="Data directory with the local token (TRIVIUM_DATA; var).",
        ),
        click.option(
            "--token",
            envvar="TRIVIUM_TOKEN",
            help="Bearer token (TRIVIUM_TOKEN; else the local token in the data directory).",
        ),
        click.option(
            "--url",
            envvar="TRIVIUM_URL",
            help=f"Where the broker is (TRIVIUM_URL; else TRIVIUM_LISTEN; {URL_DEFAULT}).",
        ),
    ):
        made = option(made)
    return made


def _default_url() -> str:
    """Where a broker with this environment's TRIVIUM_LISTEN is reached from its own machine."""
    listen = os.environ.get("TRIVIUM_LISTEN")
    if not listen:
        return URL_DEFAULT
    address = parse_address(listen, "TRIVIUM_LISTEN")
    return f"http://{reachable(address)}"


def reachable(address: Address) -> Address:
    """The address as a client on this machine uses it: every interface is also loopback."""
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound
    return Address(everywhere.get(address.host, address.host), address.port)


def access_to(url: str | None, token: str | None, data: Path) -> Access:
    """The address and the token to use.

    The local token opens everything, so it is sent to this machine's own addresses only.

    Raises:
        CommandError: there is no token.
    """
    url = url or _default_url()
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise click.BadParameter(f"{url!r} is not an http or https address", param_hint="--url")
    base = url.rstrip("/")
    if token:
        return Access(url=base, token=token.strip(), data=data)
    if not Address(parts.hostname, 0).is_loopback:
        raise CommandError(
            "No token for this broker",
            detail=f"{base} is not on this machine, so the local token is not sent there",
            advice="Sign in there and set TRIVIUM_TOKEN.",
            code="cli.no_token",
        )
    file = data / "local.token"
    try:
        return Access(url=base, token=file.read_text("ascii").strip(), data=data)
    except (OSError, ValueError):
        raise CommandError(
            "No token for this broker",
            detail=f"{file} cannot be read; a running broker writes it",
            advice="Start the broker, say where its data is (--data), or set TRIVIUM_TOKEN.",
            code="cli.no_token",
        ) from None


def path_of(*parts: str) -> str:
    """The path below /api/v1, each part quoted."""
    return "/".join(quote(part, safe="") for part in parts)


class Remote:
    """A connection to the broker's API. Every method raises CommandError."""

    def __init__(self, session: aiohttp.ClientSession, access: Access) -> None:
        self._session = session
        self._access = access

    @property
    def url(self) -> str:
        return self._access.url

    async def get(self, path: str, **query: str | int) -> Any:
        return await self._call("GET", path, query=query)

    async def post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        return await self._call("POST", path, body=body)

    async def patch(self, path: str, body: Mapping[str, Any]) -> Any:
        return await self._call("PATCH", path, body=body)

    async def delete(self, path: str) -> Any:
        return await self._call("DELETE", path)

    async def upload(self, path: str, file: Path, query: Mapping[str, str | int]) -> Any:
        """POST the file's content as it is; this may take hours. Not tried again."""
        url = f"{self._access.url}/api/v1/{path}"
        timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_S, sock_read=UPLOAD_ANSWER_S)
        try:
            with file.open("rb") as content:
                async with self._session.post(
                    url,
                    params=query,
                    data=content,
                    headers={"Content-Type": "application/octet-stream"},
                    allow_redirects=False,
                    timeout=timeout,
                ) as answer:
                    data = await answer.content.read(ANSWER_BYTES_MAX)
                    if answer.status >= HTTP_ERROR:
                        raise self._problem(answer.status, answer.headers, data)
                    return self._decoded(data)
        except TimeoutError as error:
            raise unreachable(self._access.url, "it does not answer in time") from error
        except aiohttp.ClientError as error:
            reason = "the connection is refused or breaks off"
            raise unreachable(self._access.url, reason) from error

    async def page(self, path: str, *, limit: int, **query: str) -> dict[str, Any]:
        """The first `limit` rows of a list, over several pages: {"items": […], "next": …}."""
        items: list[Any] = []
        after: str | None = None
        while True:
            asked: dict[str, str | int] = {
                **query,
                "limit": min(limit - len(items), PAGE_LIMIT_MAX),
            }
            if after is not None:
                asked["after"] = after
            answer = await self.get(path, **asked)
            items += answer["items"]
            after = answer.get("next")
            if after is None or len(items) >= limit:
                return {"items": items, "next": after}

    async def every(self, path: str, **query: str) -> AsyncIterator[Any]:
        """Every row of a list."""
        after: str | None = None
        while True:
            asked: dict[str, str | int] = {**query, "limit": PAGE_LIMIT_MAX}
            if after is not None:
                asked["after"] = after
            answer = await self.get(path, **asked)
            for item in answer["items"]:
                yield item
            before, after = after, answer.get("next")
            if after is None or after == before:
                return

    async def lines(self, path: str, **query: str | int) -> AsyncIterator[bytes]:
        """The lines of an answer of any length, as they come, each with its end.

        Lines are at most LINE_BYTES_MAX long. Raises CommandError also when it breaks off.
        """
        url = f"{self._access.url}/api/v1/{path}"
        timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_S, sock_read=ANSWER_S)
        try:
            async with self._session.get(
                url,
                params=query or None,
                allow_redirects=False,
                timeout=timeout,
                read_bufsize=LINE_BYTES_MAX,
            ) as answer:
                if answer.status >= HTTP_ERROR:
                    raise self._problem(answer.status, answer.headers, await answer.read())
                async for line in answer.content:
                    yield line
        except TimeoutError as error:
            raise unreachable(self._access.url, "it does not answer in time") from error
        except (aiohttp.ClientError, ValueError) as error:
            reason = "the connection is refused or breaks off"
            raise unreachable(self._access.url, reason) from error

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | int] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Any:
        for attempt in range(1, BUSY_TRIES_MAX + 1):
            status, headers, data = await self._exchange(method, path, query, body)
            if status < HTTP_ERROR:
                return self._decoded(data)
            problem = self._problem(status, headers, data)
            # This code means that nothing was begun, so asking again does nothing twice.
            if problem.code != BusyError.code or attempt == BUSY_TRIES_MAX:
                raise problem
            await asyncio.sleep(_retry_after_s(headers))
        raise AssertionError("the last try answers or raises")

    async def _exchange(
        self,
        method: str,
        path: str,
        query: Mapping[str, str | int] | None,
        body: Mapping[str, Any] | None,
    ) -> tuple[int, Mapping[str, str], bytes]:
        url = f"{self._access.url}/api/v1/{path}"
        try:
            async with self._session.request(
                method, url, params=query or None, json=body, allow_redirects=False
            ) as answer:
                data = bytearray()
                async for piece in answer.content.iter_any():
                    data += piece
                    if len(data) > ANSWER_BYTES_MAX:
                        raise CommandError(f"The answer is larger than {ANSWER_BYTES_MAX} bytes")
                return answer.status, answer.headers, bytes(data)
        except TimeoutError as error:
            raise unreachable(self._access.url, "it does not answer in time") from error
        except aiohttp.ClientError as error:
            reason = "the connection is refused or breaks off"
            raise unreachable(self._access.url, reason) from error

    def _decoded(self, data: bytes) -> Any:
        if not data:
            return None
        try:
            return json.loads(data)
        except ValueError as error:
            raise unreachable(self._access.url, "what answers there is no broker") from error

    def _problem(self, status: int, headers: Mapping[str, str], data: bytes) -> CommandError:
        try:
            found = json.loads(data)
        except ValueError:
            found = None
        if not isinstance(found, dict) or "code" not in found:
            return unreachable(
                self._access.url, f"what answers there (status {status}) is no broker"
            )
        plain = ("type", "title", "status", "detail", "instance", "code", "request_id", "advice")
        return CommandError(
            str(found.get("title") or f"The broker refused (status {status})"),
            detail=str(found.get("detail") or ""),
            advice=str(found.get("advice") or ""),
            code=str(found["code"]),
            request_id=str(found.get("request_id") or headers.get("X-Request-Id") or ""),
            fields={name: value for name, value in found.items() if name not in plain},
        )


def _retry_after_s(headers: Mapping[str, str]) -> float:
    try:
        asked_s = float(headers.get("Retry-After", "1"))
    except ValueError:
        asked_s = 1.0
    return min(max(asked_s, 0.1), BUSY_PAUSE_S_MAX)


@asynccontextmanager
async def connected(access: Access) -> AsyncIterator[Remote]:
    timeout = aiohttp.ClientTimeout(total=ANSWER_S, connect=CONNECT_S)
    headers = {"Authorization": f"Bearer {access.token}"}
    # Chinese names as themselves: escaped they would be twice as long.
    plain = functools.partial(json.dumps, ensure_ascii=False)
    async with aiohttp.ClientSession(
        timeout=timeout, headers=headers, json_serialize=plain
    ) as session:
        yield Remote(session, access)


def ask(access: Access, use: Callable[[Remote], Coroutine[Any, Any, Result]]) -> Result:
    """Run `use` with a connection, from a command's ordinary function."""

    async def run() -> Result:
        async with connected(access) as remote:
            return await use(remote)

    return asyncio.run(run())
