"""Cursors, and pages of lists that are in memory."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.errors import BadRequestError
from broker.ports import PageQuery
from broker.web.lists import cut, make_cursor, read_cursor

NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)


@given(NAMES)
def test_a_cursor_leads_back_to_its_key(key: str) -> None:
    assert read_cursor("users", make_cursor("users", key)) == key


@given(NAMES, st.data())
def test_a_changed_cursor_is_refused(key: str, data: st.DataObject) -> None:
    cursor = make_cursor("users", key)
    place = data.draw(st.integers(0, len(cursor) - 1))
    other = data.draw(st.sampled_from("ABCDwxyz0189-_=+/ é"))
    changed = cursor[:place] + other + cursor[place + 1 :]
    if changed == cursor:
        return
    with pytest.raises(BadRequestError) as refused:
        read_cursor("users", changed)
    assert refused.value.fields["field"] == "after"


@pytest.mark.parametrize(
    "cursor",
    ["", "=", "A", "AAAAAAAA", "é", "\x00", make_cursor("pools", "x"),
     base64.urlsafe_b64encode(b"\0" * 6 + b"x").decode()],
)  # fmt: skip
def test_what_is_not_a_cursor_of_this_list_is_refused(cursor: str) -> None:
    with pytest.raises(BadRequestError):
        read_cursor("users", cursor)


@given(st.sets(NAMES, max_size=30), st.integers(1, 7))
def test_pages_put_together_are_the_list(names: set[str], limit: int) -> None:
    found: list[str] = []
    after: str | None = None
    while True:
        page = cut(names, PageQuery(limit=limit, after=after), str)
        assert len(page.items) <= limit
        found += page.items
        after = page.next_after
        if after is None:
            break
    assert found == sorted(names)


def test_text_is_part_of_a_name_in_any_case() -> None:
    page = cut(["Library", "LAB", "design"], PageQuery(text="lIb"), str)
    assert page.items == ("Library",)
