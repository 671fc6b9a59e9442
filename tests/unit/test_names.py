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
        ("", "is empty"),
        ("a;b", "has a ';', which names may not have"),
        ("a/b", "has a '/', which names may not have"),
        ("a\tb", "has an invisible character (U+0009)"),
        ("a\u00a0b", "has an invisible character (U+00A0)"),
        ("a\u200db", "has an invisible character (U+200D)"),
        ("a\u200bb", "has a control or invisible character (U+200B)"),
        ("a\u202eb", "has a control or invisible character (U+202E)"),
        ("a\x07b", "has a control or invisible character (U+0007)"),
        ("a\ud800b", "has a control or invisible character (U+D800)"),
        ("a  b", "has two spaces in a row"),
        ("x" * 121, "has 121 characters; at most 120 are allowed"),
    ],
)
def test_a_bad_name_is_refused_with_its_reason(name: str, reason: str) -> None:
    assert names.name_problem(name) == reason


@pytest.mark.parametrize("name", ["lab-1", "三号机房-01", "Class 7.A", "o'brien", "x" * 120, "نام"])
def test_names_of_any_script_are_taken(name: str) -> None:
    assert names.name_problem(name) is None


def test_labels_may_hold_joiners_and_be_empty_but_names_may_not() -> None:
    persian = "می\u200cخواهم"
    assert names.label_problem(persian) is None
    assert names.label_problem("") is None
    assert names.name_problem(persian) is not None


def test_usernames_have_no_spaces() -> None:
    assert names.username_problem("wang wei") == "has a space, which user names may not have"
    assert names.username_problem("wang.wei") is None
    assert names.username_problem("wang/wei") == "has a '/', which names may not have"


def test_shown_text_is_short_and_has_nothing_invisible() -> None:
    assert names.shown("a\x1b[31m\u202eb") == "'a\\u001b[31m\\u202eb'"
    assert names.shown("y" * 60) == "'" + "y" * 60 + "'"
    assert names.shown("y" * 61) == "'" + "y" * 59 + "…'"
