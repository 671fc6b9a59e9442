"""What is wrong with a roster: every problem, bounded."""

from __future__ import annotations

from dataclasses import dataclass

from broker.limits import ROSTER_PROBLEMS_MAX


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Problem:
    """One bad line. `line` counts from 1, the header; 0 means the file as a whole.

    `field` is the column, or empty when it is the line. `message` is a sentence for a person.
    """

    file: str
    line: int
    field: str
    message: str

    def as_fields(self) -> dict[str, object]:
        """The form in which the API answers it."""
        return {
            "file": self.file,
            "line": self.line,
            "field": self.field,
            "message": self.message,
        }


class Problems:
    """Collects problems: the first ROSTER_PROBLEMS_MAX whole, the rest as a number."""

    def __init__(self) -> None:
        self._listed: list[Problem] = []
        self._total = 0

    def add(self, file: str, line: int, field: str, message: str) -> None:
        self._total += 1
        if len(self._listed) < ROSTER_PROBLEMS_MAX:
            self._listed.append(Problem(file=file, line=line, field=field, message=message))

    def __len__(self) -> int:
        return self._total

    @property
    def listed(self) -> tuple[Problem, ...]:
        """By file and line."""
        return tuple(sorted(self._listed))

    @property
    def more(self) -> int:
        """How many there are beside the listed ones."""
        return self._total - len(self._listed)
