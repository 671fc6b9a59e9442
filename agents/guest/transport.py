"""What carries the agent's lines: a port of its machine, or a link over the network."""

from __future__ import annotations

from abc import ABC, abstractmethod


class Transport(ABC):
    """Bytes to and from an engine that comes and goes; opens itself again and again."""

    connected = False
    """how it was at the last `wait`"""

    @abstractmethod
    def wait(self, timeout_s: float, *, writable: bool) -> bytes:
        """What came, within about that time; empty for nothing. With `writable`, one that takes
        bytes again ends the wait, too."""

    @abstractmethod
    def write(self, data: bytes) -> int:
        """Bytes that were taken now; 0 when the engine does not read."""

    @abstractmethod
    def close(self) -> None:
        """Give it back; the next `wait` opens it again."""
