"""Exports of the audit trail, held against themselves and against anchors, without a broker."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from broker.cli.audit_file import Export, check_file
from broker.cli.errors import CommandError
from broker.domain.audit import GENESIS, SealedEntry, sealed
from broker.services.audit import Anchor
from tests.unit.test_audit_service import entry

CHAIN = sealed(GENESIS, 0, [entry(number) for number in range(9)])
ANCHOR = Anchor(number=9, seal=CHAIN[-1].seal)


def row(one: SealedEntry, **changes: Any) -> dict[str, Any]:
    shown = {"number": one.number, "seal": one.seal.hex(), "entry": msgspec.to_builtins(one.entry)}
    return shown | changes


def written(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in rows))
    return path


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., Path]:
    return lambda *rows: written(tmp_path / "trail.jsonl", *rows)


def test_an_export_into_a_folder_that_is_not_there_is_refused_with_its_name(
    tmp_path: Path,
) -> None:
    nowhere = tmp_path / "gone" / "trail.jsonl"
    with pytest.raises(CommandError) as refused:
        Export.into(nowhere)
    assert refused.value.detail == f"{nowhere}: No such file or directory"
    assert refused.value.advice


def test_a_whole_export_holds_up_to_its_last_entry(file: Callable[..., Path]) -> None:
    found = check_file(file(*map(row, CHAIN)), anchor=ANCHOR)
    assert (found["break"], found["first_number"], found["last_number"]) == (None, 1, 9)
    assert found["last_seal"] == CHAIN[-1].seal.hex()


@pytest.mark.parametrize("kept", [CHAIN[:6], CHAIN[3:6]], ids=["the tail", "head and tail"])
def test_what_was_cut_off_is_told_by_an_anchor(
    file: Callable[..., Path], kept: tuple[SealedEntry, ...]
) -> None:
    path = file(*map(row, kept))
    assert check_file(path)["break"] is None
    assert check_file(path, anchor=ANCHOR)["break"]["number"] == 9
    other = Anchor(number=6, seal=bytes(32))
    assert check_file(path, anchor=other)["break"]["number"] == 6


def test_a_part_is_held_against_the_anchor_that_it_begins_behind(
    file: Callable[..., Path],
) -> None:
    path = file(*map(row, CHAIN[4:]))
    since = Anchor(number=4, seal=CHAIN[3].seal)
    assert check_file(path, since=since, anchor=ANCHOR)["break"] is None
    forged = Anchor(number=4, seal=bytes(32))
    assert check_file(path, since=forged)["break"]["number"] == 5
    earlier = Anchor(number=2, seal=CHAIN[1].seal)
    assert check_file(path, since=earlier)["break"]["number"] == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"number": "1"},
        {"number": 1.5},
        {"number": None},
        {"number": 0},
        {"number": 2**70},
        {"seal": "ab"},
        {"seal": 7},
        {"entry": None},
        {"entry": row(CHAIN[0])["entry"] | {"approved_by": "the head"}},
        {"entry": {k: v for k, v in row(CHAIN[0])["entry"].items() if k != "source"}},
        {"entry": row(CHAIN[0])["entry"] | {"at": "later"}},
        {"signed": "yes"},
    ],
)
def test_a_line_that_is_no_sealed_entry_is_named(
    file: Callable[..., Path], changes: dict[str, Any]
) -> None:
    with pytest.raises(CommandError) as told:
        check_file(file(row(CHAIN[0], **changes)))
    assert told.value.code == "cli.export_broken"
    assert told.value.detail.startswith("line 1 of ")


def test_an_empty_file_is_not_called_whole(file: Callable[..., Path]) -> None:
    with pytest.raises(CommandError, match="no entries"):
        check_file(file())


async def test_an_export_with_nothing_new_still_tells_its_anchor(
    file: Callable[..., Path],
) -> None:
    class Quiet:
        async def lines(self, path: str, **query: object) -> Any:
            assert (path, query) == ("audit/export", {"after": 9})
            yield b'{"end":{"last_number":9,"last_seal":""}}\n'

    made = await Export.into(file(*map(row, CHAIN))).run(Quiet())  # type: ignore[arg-type]
    assert made == {"entries": 0, "last_number": 9, "last_seal": CHAIN[-1].seal.hex()}
