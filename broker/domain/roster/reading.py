"""From the files' text to checked rows. Never raises for what a file holds: it names problems."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from broker.domain import names
from broker.domain.roster.cells import BadCellError
from broker.domain.roster.files import (
    FILES,
    Column,
    EndpointRow,
    EntitlementRow,
    FileSpec,
    GroupRow,
    HostRow,
    ImageRow,
    PoolRow,
    UserRow,
)
from broker.domain.roster.problems import Problems
from broker.limits import ROSTER_ROWS_MAX

_BYTE_ORDER_MARK = "\ufeff"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One file's good rows. `keys` also holds the keys of bad rows, so that what refers to them
    is not reported as well; `readable` is False when part of the file could not be read."""

    rows: tuple[Any, ...] = ()
    keys: frozenset[str] = frozenset()
    present: bool = False
    readable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Roster:
    """Every file of a roster; a file that was not given is an empty table."""

    tables: Mapping[str, Table] = field(default_factory=dict)

    def table(self, file: str) -> Table:
        return self.tables.get(file, Table())

    @property
    def groups(self) -> tuple[GroupRow, ...]:
        return self.table("groups.csv").rows

    @property
    def users(self) -> tuple[UserRow, ...]:
        return self.table("users.csv").rows

    @property
    def images(self) -> tuple[ImageRow, ...]:
        return self.table("images.csv").rows

    @property
    def hosts(self) -> tuple[HostRow, ...]:
        return self.table("hosts.csv").rows

    @property
    def pools(self) -> tuple[PoolRow, ...]:
        return self.table("pools.csv").rows

    @property
    def entitlements(self) -> tuple[EntitlementRow, ...]:
        return self.table("entitlements.csv").rows

    @property
    def endpoints(self) -> tuple[EndpointRow, ...]:
        return self.table("endpoints.csv").rows


def decode_file(file: str, data: bytes, problems: Problems) -> str:
    """A file's text: UTF-8, with or without a byte-order mark. "" with a problem otherwise."""
    if data.startswith(_UTF16_MARKS):
        problems.add(file, 0, "", "is UTF-16 text; save it as UTF-8 (in a spreadsheet: CSV UTF-8)")
        return ""
    if b"\0" in data:
        line = data[: data.index(b"\0")].count(b"\n") + 1
        problems.add(file, line, "", "has a NUL byte; this is not UTF-8 text")
        return ""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        problems.add(
            file,
            line,
            "",
            f"is not UTF-8 (byte 0x{data[error.start]:02x}); "
            "save it as UTF-8 (in a spreadsheet: CSV UTF-8)",
        )
        return ""


def read_roster(texts: Mapping[str, str], problems: Problems) -> Roster:
    """Read every file given as name -> text. An unknown file name is a problem too."""
    for file in sorted(texts):
        if file not in FILES:
            shown = names.shown(file)
            known = ", ".join(FILES)
            problems.add(shown, 0, "", f"is not a file of a roster; known: {known}")
    return Roster(
        tables={
            file: _read_table(spec, texts[file], problems)
            for file, spec in FILES.items()
            if file in texts
        }
    )


def _read_table(spec: FileSpec, text: str, problems: Problems) -> Table:
    """The rows of one file; after a line that is not CSV at all the rest is left unread."""
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        problems.add(spec.file, line, "", "has a NUL character; this is not CSV text")
        return Table(present=True, readable=False)
    source = _Lines(spec.file, text.removeprefix(_BYTE_ORDER_MARK), problems)
    lines = iter(source)
    header = next(lines, None)
    if header is None:
        if source.complete:
            problems.add(spec.file, 0, "", "is empty; its first line names the columns")
        return Table(present=True, readable=False)
    order = _header(spec, header[1], header[0], problems)
    if order is None:
        return Table(present=True, readable=False)
    rows, keys = _read_rows(spec, order, lines, problems)
    return Table(rows=rows, keys=keys, present=True, readable=source.complete)


class _Lines:
    """(line number, cells) of every line that is not blank. `complete` after the last one, unless
    a line was not CSV or there were too many."""

    def __init__(self, file: str, text: str, problems: Problems) -> None:
        self._file = file
        self._reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        self._problems = problems
        self._count = 0
        self.complete = False

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        while True:
            line = self._reader.line_num + 1
            try:
                cells = next(self._reader)
            except StopIteration:
                self.complete = True
                return
            except csv.Error as error:
                self._problems.add(
                    self._file, line, "", f"is not CSV ({error}); the rest was not read"
                )
                return
            if not any(cell.strip() for cell in cells):
                continue
            self._count += 1
            if self._count > ROSTER_ROWS_MAX + 1:
                text = f"has more than {ROSTER_ROWS_MAX} lines; import it in parts"
                self._problems.add(self._file, line, "", text)
                return
            yield line, cells


def _header(spec: FileSpec, cells: list[str], line: int, problems: Problems) -> list[Column] | None:
    """The columns in the file's order, or None when the header is bad."""
    known = {column.name: column for column in spec.columns}
    found = [names.clean(cell).lower() for cell in cells]
    if len(found) == 1 and found[0] not in known and any(mark in found[0] for mark in ";\t"):
        problems.add(spec.file, line, "", "separates columns by ';' or tabs; use commas")
        return None
    good = True
    for place, name in enumerate(found):
        if name not in known:
            columns = ", ".join(known)
            what = f"unknown column {names.shown(name)}" if name else "a column without a name"
            problems.add(spec.file, line, name[:60], f"{what}; known: {columns}")
            good = False
        elif name in found[:place]:
            problems.add(spec.file, line, name, "the column is there twice")
            good = False
    for column in spec.columns:
        if column.required and column.name not in found:
            problems.add(spec.file, line, column.name, "the column is missing")
            good = False
    return [known[name] for name in found] if good else None


def _read_rows(
    spec: FileSpec,
    order: list[Column],
    lines: Iterator[tuple[int, list[str]]],
    problems: Problems,
) -> tuple[tuple[Any, ...], frozenset[str]]:
    rows: list[Any] = []
    first_line: dict[str, int] = {}
    absent = {column.name: None for column in spec.columns if column not in order}
    for line, cells in lines:
        if len(cells) != len(order):
            text = f"has {len(cells)} cells where the header has {len(order)}"
            problems.add(spec.file, line, "", text)
            continue
        values = _read_cells(spec, order, cells, line, problems)
        key = _key(spec, values)
        if key is not None and key in first_line:
            text = f"{names.shown(key)} is in line {first_line[key]} already"
            problems.add(spec.file, line, spec.key[0], text)
            continue
        if key is not None:
            first_line[key] = line
        if len(values) == len(order):
            rows.append(spec.row(line=line, **absent, **values))
    return tuple(rows), frozenset(first_line)


def _read_cells(
    spec: FileSpec, order: list[Column], cells: list[str], line: int, problems: Problems
) -> dict[str, Any]:
    """The good cells' values by column; each bad one is named."""
    values: dict[str, Any] = {}
    for column, cell in zip(order, cells, strict=True):
        try:
            if cell.strip():
                values[column.name] = column.read(cell)
            elif column.required:
                problems.add(spec.file, line, column.name, "is empty")
            else:
                values[column.name] = () if column.is_list else None
        except BadCellError as error:
            problems.add(spec.file, line, column.name, str(error))
    return values


def _key(spec: FileSpec, values: Mapping[str, Any]) -> str | None:
    """The row's key as its record type spells it, if the columns it is made of are good."""
    if not all(name in values for name in spec.key):
        return None
    blank = {column.name: None for column in spec.columns}
    return str(spec.row(**{**blank, **values, "line": 0}).key)
