"""Which passwords are accepted."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.errors import BadRequestError
from broker.domain.passwords import check_password, normal, password_problem
from broker.limits import PASSWORD_CHARS_MAX, PASSWORD_CHARS_MIN

GUESSED = "this password is among the first that are guessed"


@pytest.mark.parametrize(
    "password",
    [
        "seven wet otters", "x9!kfmq2-wzA",
        "图书馆三楼的雨伞总是不见了啊", "a" * 11 + "bcdef" + "q", "umbrella" * 2,
        "vwxyzvwxyzvw", "acegikmoqsuw",
        "correct horse battery staple", "\U0001f9e9" * 3 + " puzzle pieces",
    ],
)  # fmt: skip
def test_a_long_enough_phrase_is_accepted_whatever_it_is_made_of(password: str) -> None:
    assert password_problem(password, username="ada") is None
    check_password(password, username="ada")


@pytest.mark.parametrize(
    ("password", "says"),
    [
        ("", "a password has at least 12 characters"),
        ("elevenchars", "a password has at least 12 characters"),
        ("x" + "yz!" * 100, "a password has at most 256 characters"),
        ("Password1234", GUESSED),
        ("woaini1314520", GUESSED),
        ("aaaaaaaaaaaaa", GUESSED),
        ("abcabcabcabcab", GUESSED),
        ("wxyzwxyzwxyz", GUESSED),
        ("567890123456", GUESSED),
        ("987654321098", GUESSED),
        ("bcdefghijklmn", GUESSED),
        ("nmlkjihgfedcb", GUESSED),
        ("ada.lovelace1815", "a password is not made of the user name"),
        ("ADA.LOVELACEada.lovelace", "a password is not made of the user name"),
        ("seven wet\x00otters", "a password has no control characters"),
        ("seven wet\notters", "a password has no control characters"),
        ("seven wet \ud800 otters", "a password has no control characters"),
    ],
)
def test_what_is_guessed_first_is_refused_with_the_reason(password: str, says: str) -> None:
    problem = password_problem(password, username="ada.lovelace")
    assert problem == says
    with pytest.raises(BadRequestError) as refused:
        check_password(password, username="ada.lovelace")
    assert refused.value.detail == says
    assert refused.value.fields == {"field": "password"}
    assert password == "" or password not in refused.value.detail


def test_without_a_user_name_no_password_is_made_of_it() -> None:
    for made_of_x in ("xxxxyxxxxyxx", "x" * 4 + "1029384756"):
        assert password_problem(made_of_x) is None
        check_password(made_of_x)


@pytest.mark.parametrize("length", [PASSWORD_CHARS_MIN, PASSWORD_CHARS_MAX])
def test_both_ends_of_the_length_are_inside(length: int) -> None:
    phrase = ("the rain in Spain " * 20)[:length]
    assert password_problem(phrase) is None


@given(st.text(max_size=300))
def test_any_text_is_judged_without_an_error(password: str) -> None:
    problem = password_problem(password, username="ada")
    if problem is None:
        assert PASSWORD_CHARS_MIN <= len(normal(password)) <= PASSWORD_CHARS_MAX


@given(st.text(max_size=40))
def test_the_two_spellings_of_one_text_are_judged_alike(text: str) -> None:
    spelt = unicodedata.normalize("NFD", text)
    assert password_problem(spelt) == password_problem(unicodedata.normalize("NFC", text))
