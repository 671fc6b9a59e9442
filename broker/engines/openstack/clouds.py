"""One cloud: calls of openstacksdk on threads of its own, each with a connection of its own.

The calls block, so a cloud that hangs holds up nobody else; whoever leaves a call leaves it
running, and the same desktop's next turn waits for its end (turns.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import openstack
from keystoneauth1.exceptions import ClientException
from openstack.config import OpenStackConfig
from openstack.exceptions import ConfigException, SDKException

from broker.domain.errors import EngineError
from broker.limits import OPENSTACK_CALLS_MAX, OPENSTACK_HTTP_S, OPENSTACK_THREADS

_T = TypeVar("_T")
_log = logging.getLogger("trivium.openstack")


class Cloud:
    """`name` and `region` as in clouds.yaml, the file `clouds`. One loop uses it."""

    def __init__(self, *, name: str, region: str, clouds: Path) -> None:
        self.name = name
        self.region = region
        self._clouds = clouds
        self._threads = ThreadPoolExecutor(
            OPENSTACK_THREADS, thread_name_prefix=f"openstack {name}"
        )
        self._own = threading.local()
        self._opened: list[Any] = []
        self._calls = 0
        self._closed = False

    def call(self, work: Callable[[Any], _T]) -> asyncio.Future[_T]:
        """`work` with a connection that nobody else uses meanwhile; it runs to its end whoever
        stops waiting. Raises EngineError."""
        if self._closed:
            raise EngineError(f"cloud {self.name} is not spoken to any more")
        if self._calls >= OPENSTACK_CALLS_MAX:
            raise EngineError(f"cloud {self.name} has too many calls to answer")
        self._calls += 1
        future = asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: self._with_own(work)
        )
        future.add_done_callback(self._ended)
        return future

    async def close(self) -> None:
        """Calls under way end first, each within OPENSTACK_HTTP_S."""
        self._closed = True
        await asyncio.to_thread(self._threads.shutdown)
        for connection in self._opened:
            with contextlib.suppress(SDKException, ClientException):
                await asyncio.to_thread(connection.close)

    def leave(self) -> None:
        """Hang up without waiting: a call under way ends by itself, and its connection with it."""
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        for connection in self._opened:
            with contextlib.suppress(SDKException, ClientException):
                connection.close()

    def _ended(self, future: asyncio.Future[Any]) -> None:
        self._calls -= 1
        if not future.cancelled():
            future.exception()

    # ------------------------------------------------------------------ on a thread

    def _with_own(self, work: Callable[[Any], _T]) -> _T:
        if self._closed:
            raise EngineError(f"cloud {self.name} is not spoken to any more")
        try:
            connection = getattr(self._own, "connection", None)
            if connection is None:
                connection = self._own.connection = self._connect()
                self._opened.append(connection)
            return work(connection)
        except (SDKException, ClientException) as error:
            _log.warning("cloud %s: %s", self.name, error)
            raise EngineError(f"cloud {self.name} could not do what was asked") from None
        except EngineError:
            raise
        except Exception:  # noqa: BLE001 - a library's own mistakes, too
            _log.exception("cloud %s", self.name)
            raise EngineError(f"cloud {self.name} could not do what was asked") from None

    def _connect(self) -> Any:
        try:
            mode = self._clouds.stat().st_mode
        except OSError:
            raise EngineError(f"there is no {self._clouds.name} in the data folder") from None
        if mode & 0o077:
            raise EngineError(f"{self._clouds.name} may be read by others than the broker")
        config = OpenStackConfig(
            config_files=[str(self._clouds)],
            vendor_files=[],
            secure_files=[],
            load_envvars=False,
        )
        try:
            chosen = config.get_one(
                cloud=self.name,
                region_name=self.region or None,
                api_timeout=OPENSTACK_HTTP_S,
            )
        except ConfigException:
            where = f" with a region {self.region}" if self.region else ""
            text = f"{self._clouds.name} has no cloud {self.name}{where}"
            raise EngineError(text) from None
        return openstack.connection.Connection(config=chosen)
