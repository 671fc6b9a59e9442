"""The state file: private, whole or not at all, one process at a time."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from agents.state import StateError, StateFile
from tests.support.agent_script import identity


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new folder" / "state.json"


def test_what_was_saved_is_loaded_in_order(path: Path) -> None:
    ones = [
        identity("thin"),
        replace(identity("fat", enrolled=False), name="桌子-2", location="三楼"),
    ]
    with StateFile(path) as state:
        state.save(ones)
    with StateFile(path) as state:
        assert list(state.load().values()) == ones


def test_no_file_yet_is_no_identity_yet(path: Path) -> None:
    with StateFile(path) as state:
        assert state.load() == {}


def test_nobody_else_may_read_it_whatever_the_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        with StateFile(path) as state:
            state.save([identity()])
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_file_that_others_may_read_is_refused(path: Path, mode: int) -> None:
    with StateFile(path) as state:
        state.save([identity()])
        path.chmod(mode)
        with pytest.raises(StateError, match="chmod 600"):
            state.load()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "{" * 100_000,
        '{"endpoints":[{"name":"a"}],"version":1}',
        '{"endpoints":[{"name":"a","kind":"fat","location":"","private_key":"zz"}],"version":1}',
        '{"endpoints":[{"name":"a","kind":"fat","location":"","private_key":"00"}],"version":1}',
    ],
)
def test_a_damaged_file_is_refused_and_left_alone(path: Path, text: str) -> None:
    path.parent.mkdir()
    path.write_text(text)
    path.chmod(0o600)
    with StateFile(path) as state, pytest.raises(StateError, match="damaged"):
        state.load()
    assert path.read_text() == text


def test_a_file_of_another_version_is_refused(path: Path) -> None:
    path.parent.mkdir()
    path.write_text('{"endpoints":[],"version":2}')
    path.chmod(0o600)
    with StateFile(path) as state, pytest.raises(StateError, match="another version"):
        state.load()


def test_a_second_process_is_kept_out_until_the_first_is_done(path: Path) -> None:
    with StateFile(path), pytest.raises(StateError, match="in use"), StateFile(path):
        pass
    with StateFile(path):
        pass


def test_a_save_that_fails_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with StateFile(path) as state:
        state.save([identity()])
        before = path.read_bytes()

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(StateError, match="No space left"):
            state.save([])
    assert path.read_bytes() == before


def test_what_a_cut_off_save_left_behind_is_no_hindrance(path: Path) -> None:
    with StateFile(path) as state:
        path.with_name("state.json.new").write_text("half")
        state.save([identity()])
        assert state.load()


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="cannot be opened"), StateFile(tmp_path / "file" / "x"):
        pass
