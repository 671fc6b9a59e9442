"""The port to the engine: a virtio-serial device, or a UNIX socket."""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
from pathlib import Path

from agents.guest import limits
from agents.guest.clock import Clock
from agents.guest.transport import Transport

_TRY_AGAIN = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR)


class Port(Transport):
    """A virtio-serial device stays open without an engine and says so by hanging up; a socket ends
    and is connected anew.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._fd = -1
        self._socket: socket.socket | None = None

    def _open(self) -> bool:
        try:
            if stat.S_ISSOCK(self._path.stat().st_mode):
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                self._socket.connect(str(self._path))
                self._socket.settimeout(0)
                self._fd = self._socket.fileno()
            else:
                self._fd = os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            self.close()
            return False
        return True

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        elif self._fd >= 0:
            os.close(self._fd)
        self._socket = None
        self._fd = -1
        self.connected = False

    def wait(self, timeout_s: float, *, writable: bool) -> bytes:
        if self._fd < 0 and not self._open():
            self._clock.sleep(limits.REOPEN_S)
            return b""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN | (select.POLLOUT if writable else 0))
        events = dict(poll.poll(timeout_s * 1000)).get(self._fd, 0)
        if events & select.POLLIN:
            return self._read()
        if events & (select.POLLHUP | select.POLLERR | select.POLLNVAL):
            self._gone()
            return b""
        self.connected = True
        return b""

    def _read(self) -> bytes:
        try:
            data = os.read(self._fd, limits.READ_BYTES)
        except OSError as error:
            if error.errno not in _TRY_AGAIN:
                self.close()
            return b""
        if data:
            self.connected = True
        else:
            self._gone()
        return data

    def _gone(self) -> None:
        """The engine hung up. Its device is kept open: whoever opens it anew might be refused,
        and polling would return at once, so this waits."""
        self.connected = False
        if self._socket is not None or not self._path.exists():
            self.close()
        self._clock.sleep(limits.REOPEN_S)

    def write(self, data: bytes) -> int:
        if not self.connected:
            return 0
        try:
            return os.write(self._fd, data)
        except OSError as error:
            if error.errno not in _TRY_AGAIN:
                self.close()
            return 0
