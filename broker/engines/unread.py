"""Hosts that an engine was told of and cannot read: a newer broker wrote their profiles."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from broker.domain.errors import EngineError, NotHereError
from broker.domain.lifecycle import HOST_RUNS
from broker.domain.model import Host, HostState


class Unread:
    """Such hosts, by id, as their records were told last. What an engine knows of one from an
    earlier profile says nothing of what the host is now."""

    def __init__(self) -> None:
        self._refused: dict[str, tuple[Host, str]] = {}

    @contextmanager
    def reading(self, host: Host) -> Iterator[None]:
        """The host's profile is read within: where it cannot be, that is noted. Raises
        NotHereError."""
        try:
            yield
        except EngineError as error:
            self._refused[host.id] = host, error.detail
            raise NotHereError(error.detail) from None
        newest, _ = self._refused.get(host.id, (host, ""))
        if host.revision >= newest.revision:
            self._refused.pop(host.id, None)

    def silent(self) -> dict[str, str]:
        """Those on which machines may run, with why: of their machines nothing can be told."""
        return {
            host_id: f"its profile cannot be read: {why}"
            for host_id, (host, why) in self._refused.items()
            if host.state in HOST_RUNS
        }

    def others(self, host_id: str) -> list[Host]:
        """Those beside that host which may have a disk: all that are not retired."""
        hosts = (host for host, _ in self._refused.values())
        return [one for one in hosts if one.id != host_id and one.state is not HostState.RETIRED]
