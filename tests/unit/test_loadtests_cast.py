"""The cast: its file is private, and what is wrong in it is named without its secrets."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from loadtests.cast import CastError, read_cast, write_cast
from tests.support.campaigns import cast_of


def test_a_cast_is_read_back_as_it_was_written_and_only_by_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "cast.json"
    path.write_text("older")
    write_cast(path, cast_of())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_cast(path) == cast_of()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_cast_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "cast.json"
    write_cast(path, cast_of())
    path.chmod(mode)
    with pytest.raises(CastError, match="open to others"):
        read_cast(path)


def _document() -> dict[str, Any]:
    return {
        "url": "http://127.0.0.1:8080",
        "pools": [{"name": "maths", "architecture": "vdi"}],
        "endpoints": [{"name": "e1", "pools": ["maths"]}],
        "people": [{"username": "u1", "password": "hush hush", "pools": ["maths"]}],
    }


def _bad_url(document: dict[str, Any]) -> None:
    document["url"] = "http://user:hush@host/path"


def _unknown_pool(document: dict[str, Any]) -> None:
    document["people"][0]["pools"] = ["art"]


def _unknown_architecture(document: dict[str, Any]) -> None:
    document["pools"][0]["architecture"] = "dvi"


def _twice(document: dict[str, Any]) -> None:
    document["people"].append(document["people"][0])


def _misspelt(document: dict[str, Any]) -> None:
    document["peoples"] = []


def _newer(document: dict[str, Any]) -> None:
    document["version"] = 2


def _slow(document: dict[str, Any]) -> None:
    document["scale"] = {"speed": 0.5}


@pytest.mark.parametrize(
    "spoil",
    [_bad_url, _unknown_pool, _unknown_architecture, _twice, _misspelt, _newer, _slow],
)
def test_a_bad_cast_is_refused_without_telling_a_secret(tmp_path: Path, spoil: Any) -> None:
    document = _document()
    path = tmp_path / "cast.json"
    path.touch(0o600)
    path.write_text(json.dumps(document))
    read_cast(path)
    spoil(document)
    path.write_text(json.dumps(document))
    with pytest.raises(CastError) as caught:
        read_cast(path)
    assert "hush" not in str(caught.value)


def test_a_missing_cast_is_told(tmp_path: Path) -> None:
    with pytest.raises(CastError, match="cannot be read"):
        read_cast(tmp_path / "none.json")
