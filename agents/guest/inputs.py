"""When the person last touched keyboard or pointer, whatever draws the screen."""

from __future__ import annotations

import os
from pathlib import Path

from agents.guest import limits

_BYTES = 24 * 64


class Inputs:
    """Opens the kernel's input devices and drops what they say: that they say something counts.

    X, Wayland and the console each have another way to ask for the idle time; the devices have
    one, and a remote display's keys come through them, too.
    """

    def __init__(self, folder: Path, now: float) -> None:
        self._folder = folder
        self._open: dict[str, int] = {}
        self._last = now

    def touched(self, now: float) -> None:
        """Count from now: another person's desktop begins."""
        self._last = now

    def idle_s(self, now: float) -> float | None:
        """Seconds without input; None where no device can be watched."""
        self._find()
        said = [self._drain(name) for name in list(self._open)]
        if any(said):
            self._last = now
        return max(0.0, now - self._last) if self._open else None

    def _find(self) -> None:
        try:
            names = sorted(each for each in os.listdir(self._folder) if each.startswith("event"))  # noqa: PTH208 -- once a second
        except OSError:
            names = []
        for name in names[: limits.INPUTS_MAX]:
            if name not in self._open:
                try:
                    self._open[name] = os.open(
                        self._folder / name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
                    )
                except OSError:
                    continue  # not ours to read

    def _drain(self, name: str) -> bool:
        """Whether it said anything since the last look."""
        said = False
        while True:
            try:
                data = os.read(self._open[name], _BYTES)
            except BlockingIOError:
                return said
            except OSError:  # it was pulled out
                os.close(self._open.pop(name))
                return said
            if not data:
                return said
            said = True
