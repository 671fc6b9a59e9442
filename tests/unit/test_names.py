"""Names and labels."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain import names


@given(st.text(max_size=30))
def test_folding_a_username_twice_changes_nothing(text: str) -> None:
    once = names.fold_username(text)
    assert names.fold_username(once) == once
    assert unicodedata.is_normalized("NFC", once)


@pytest.mark.parametrize(
    ("given_name", "stored"),
    [(" Wang.Wei ", "wang.wei"), ("JOSE\u0301", "josé"), ("李明", "李明"), ("ΣΊΣΥΦΟΣ", "σίσυφος")],
)
def test_usernames_are_trimmed_composed_and_lower_case(given_name: str, stored: str) -> None:
    assert names.fold_username(given_name) == stored


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "empty"),
        ("a;b", "';'"),
        ("a/b", "'/'"),
        ("a\tb", "invisible"),
        ("a\u00a0b", "invisible"),
        ("a\u200bb", "invisible"),
        ("a\u202eb", "invisible"),
        ("a\x07b", "invisible"),
        ("a\ud800b", "invisible"),
        ("a  b", "two spaces"),
        ("x" * 121, "121 characters"),
    ],
)
def test_a_bad_name_is_refused_with_its_reason(name: str, reason: str) -> None:
    assert reason in (names.name_problem(name) or "")


@pytest.mark.parametrize("name", ["lab-1", "三号机房-01", "Class 7.A", "o'brien", "x" * 120, "نام"])
def test_names_of_any_script_are_taken(name: str) -> None:
    assert names.name_problem(name) is None


def test_labels_may_hold_joiners_and_be_empty_but_names_may_not() -> None:
    persian = "می\u200cخواهم"
    assert names.label_problem(persian) is None
    assert names.label_problem("") is None
    assert names.name_problem(persian) is not None


def test_usernames_have_no_spaces() -> None:
    assert "space" in (names.username_problem("wang wei") or "")


def test_shown_text_is_short_and_has_nothing_invisible() -> None:
    assert names.shown("a\x1b[31m\u202eb") == "'a\\u001b[31m\\u202eb'"
    assert len(names.shown("y" * 500)) <= 62
