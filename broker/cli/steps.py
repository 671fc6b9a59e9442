"""Steps of a long command: a line for each, with a spinner or a bar while it is under way.

Everything goes to stderr. Where stderr is no terminal, each step is told when it ends, and its
progress every few seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
)
from rich.text import Text

from broker.cli.output import Output
from broker.ports import Clock

TOLD_S: Final = 10.0
"""between two lines about one step where there is no terminal"""
NAME_COLUMNS: Final = 12
BAR_COLUMNS: Final = 24


class _Bar(ProgressColumn):
    """A bar for steps whose length is known, nothing for the others."""

    def __init__(self) -> None:
        super().__init__()
        self._bar = BarColumn(bar_width=BAR_COLUMNS)

    def render(self, task: Task) -> Text | object:  # type: ignore[override]
        return self._bar.render(task) if task.total else Text("")


class Step:
    """One step under way. Texts are markup of ours; clean what comes from outside."""

    def __init__(self, steps: Steps, name: str) -> None:
        self._steps = steps
        self._name = name
        self._task = steps.begin(name)
        self._told_at = steps.clock.monotonic()

    def note(self, text: str, *, done: float | None = None, total: float | None = None) -> None:
        """What is being done, and how far it is."""
        if self._steps.live is not None and self._task is not None:
            self._steps.live.update(self._task, note=text, completed=done, total=total)
            return
        now = self._steps.clock.monotonic()
        if now - self._told_at >= TOLD_S:
            self._told_at = now
            self._steps.tell(f"  {self._name:<{NAME_COLUMNS}} {text}")

    def end(self, text: str, *, good: bool = True) -> None:
        if self._steps.live is not None and self._task is not None:
            self._steps.live.remove_task(self._task)
            self._steps.live.refresh()
        mark = "[green]✓[/]" if good else "[bold red]✗[/]"
        self._steps.tell(f"{mark} [bold]{self._name:<{NAME_COLUMNS}}[/] {text}")


class Steps:
    """The steps of one command, one below the other."""

    def __init__(self, output: Output, clock: Clock) -> None:
        self.clock = clock
        self._console: Console = output.err()
        self.live: Progress | None = None

    def begin(self, name: str) -> TaskID | None:
        if self.live is None:
            return None
        return self.live.add_task(name, total=None, note="")

    def tell(self, text: str) -> None:
        self._console.print(text)

    @contextmanager
    def shown(self) -> Iterator[Steps]:
        """Spinners and bars are drawn within this block, if there is a terminal."""
        if not self._console.is_terminal:
            yield self
            return
        self.live = Progress(
            SpinnerColumn(),
            TextColumn(f"{{task.description:<{NAME_COLUMNS}}}"),
            _Bar(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            transient=True,
        )
        self.live.start()
        try:
            yield self
        finally:
            self.hide()

    def hide(self) -> None:
        """Draw no more: the screen is for what comes now."""
        if self.live is not None:
            self.live.stop()
            self.live = None

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """A step; when it fails, its line says so and the error goes on."""
        step = Step(self, name)
        try:
            yield step
        except BaseException:
            step.end("stopped", good=False)
            raise
