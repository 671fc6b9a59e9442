"""The reader of JSON bodies: what is refused, and that nothing gets past as something else."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.errors import BadRequestError
from broker.limits import JSON_DEPTH_MAX
from broker.web.body import convert, parse_json

BAD = {
    "nothing": b"",
    "half": b'{"a":',
    "two values": b"{} {}",
    "not UTF-8": b'{"a":"\xff"}',
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "a byte-order mark": b"\xef\xbb\xbf{}",
    "NaN": b'{"a":NaN}',
    "Infinity": b'{"a":-Infinity}',
    "beyond a float": b'{"a":1e999}',
    "beyond 2^53": b'{"a":9007199254740993}',
    "5,000 digits": b'{"a":' + b"9" * 5000 + b"}",
    "a key twice": b'{"a":1,"a":2}',
    "a key twice, one escaped": b'{"a":1,"\\u0061":2}',
    "a key twice, deep": b'{"x":[{"a":1,"a":2}]}',
    "half a surrogate pair": b'{"a":"\\ud800"}',
    "half a surrogate pair in a key": b'{"\\udfff":1}',
    "NUL": b'{"a":"\\u0000"}',
    "a raw control character": b'{"a":"\x01"}',
    "single quotes": b"{'a':1}",
    "a comment": b"{} // x",
    "a trailing comma": b"[1,]",
    "100,000 lists": b"[" * 100_000 + b"]" * 100_000,
    "100,000 objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "one level too deep": b"[" * (JSON_DEPTH_MAX + 1) + b"]" * (JSON_DEPTH_MAX + 1),
}


class Thing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    count: int = 0
    tags: list[str] = msgspec.field(default_factory=list)


@pytest.mark.parametrize("raw", BAD.values(), ids=BAD.keys())
def test_what_is_not_plain_json_is_refused(raw: bytes) -> None:
    with pytest.raises(BadRequestError) as refused:
        parse_json(raw)
    assert len(refused.value.detail) < 300
    assert refused.value.detail.isprintable()


def test_as_deep_as_is_allowed_is_read() -> None:
    parse_json(b"[" * JSON_DEPTH_MAX + b"]" * JSON_DEPTH_MAX)


def test_whole_numbers_up_to_2_to_the_53_are_read() -> None:
    assert parse_json(b"[9007199254740992,-9007199254740992]") == [2**53, -(2**53)]


def test_every_other_character_is_read_escaped_or_not() -> None:
    text = "".join(map(chr, [*range(32, 0xD800), *range(0xE000, 0x11000), 0x1F600, 0x10FFFF]))
    for ascii_only in (True, False):
        assert parse_json(json.dumps(text, ensure_ascii=ascii_only).encode()) == text


def test_a_backslash_before_u0000_is_text_and_not_a_nul() -> None:
    assert parse_json(rb'"\\u0000"') == r"\u0000"


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({}, "name"),
        ({"name": 1}, "name"),
        ({"name": "a", "count": "1"}, "count"),
        ({"name": "a", "count": True}, "count"),
        ({"name": "a", "count": 1.5}, "count"),
        ({"name": "a", "role": "administrator"}, "role"),
        ({"name": "a", "tags": [1]}, "tags[0]"),
        ([], ""),
        ("text", ""),
        (None, ""),
    ],
)
def test_a_field_that_does_not_fit_is_named(value: Any, field: str) -> None:
    with pytest.raises(BadRequestError) as refused:
        convert(value, Thing)
    assert refused.value.fields["field"] == field


class Spread(StrEnum):
    BREADTH = "breadth_first"
    DEPTH = "depth_first"


class Inner(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    spread: Spread | msgspec.UnsetType = msgspec.UNSET
    when: Literal["now", "later"] = "now"
    idle_s: Annotated[int, msgspec.Meta(ge=0, le=3600)] = 0
    share: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    open: bool | None = None
    labels: Annotated[list[str], msgspec.Meta(max_length=2)] | msgspec.UnsetType = msgspec.UNSET
    zone: Annotated[str, msgspec.Meta(min_length=2, max_length=4)] = "UTC"
    by_name: dict[str, int] = msgspec.field(default_factory=dict)


class Outer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    settings: Inner | msgspec.UnsetType = msgspec.UNSET
    many: list[Inner] = msgspec.field(default_factory=list)


_FIELDS = "spread, when, idle_s, share, open, labels, zone, by_name"


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"idle": 5}, f"settings.idle: there is no such field; there are: {_FIELDS}"),
        ({"spread": "random"}, "one of breadth_first, depth_first is wanted, not 'random'"),
        ({"spread": 3}, "one of breadth_first, depth_first is wanted, not a whole number"),
        ({"when": "soon"}, "settings.when: one of later, now is wanted, not 'soon'"),
        ({"idle_s": "abc"}, "a whole number from 0 to 3600 is wanted, not a text"),
        ({"idle_s": 3601}, "settings.idle_s: a whole number from 0 to 3600 is wanted"),
        ({"idle_s": 0.5}, "a whole number from 0 to 3600 is wanted, not a number with a fraction"),
        ({"share": 0}, "settings.share: a number above 0 is wanted"),
        ({"open": "yes"}, "settings.open: true or false or null is wanted, not a text"),
        ({"labels": "gpu"}, 'a list such as ["a", "b"] of at most 2 is wanted, not a text'),
        ({"labels": ["a"] * 3}, 'settings.labels: a list such as ["a", "b"] of at most 2 is'),
        ({"labels": ["a", 1]}, "settings.labels[1]: a text is wanted, not a whole number"),
        ({"zone": "Atlantis"}, "settings.zone: a text of 2 to 4 characters is wanted"),
        ({"by_name": {"a": True}}, "a whole number is wanted, not true or false"),
        ([], "settings: an object is wanted, not a list"),
    ],
)
def test_a_refusal_says_what_is_wanted_and_what_there_is(settings: Any, text: str) -> None:
    with pytest.raises(BadRequestError) as refused:
        convert({"settings": settings}, Outer)
    assert text in refused.value.detail
    with pytest.raises(BadRequestError) as refused:
        convert({"many": [{}, settings]}, Outer)
    assert text.replace("settings", "many[1]") in refused.value.detail


def test_a_refusal_of_a_whole_body_says_so() -> None:
    with pytest.raises(BadRequestError) as refused:
        convert("text", Thing)
    assert refused.value.detail == "the body: an object is wanted, not a text"
    with pytest.raises(BadRequestError) as refused:
        convert({}, Thing)
    assert refused.value.detail == "name: it is missing"


def test_the_name_of_an_unknown_field_is_cut() -> None:
    with pytest.raises(BadRequestError) as refused:
        convert({"name": "a", "x" * 50_000: 1}, Thing)
    assert len(str(refused.value.fields["field"])) <= 200
    assert len(refused.value.detail) <= 400


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_characters="\0")),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(JSON, st.booleans())
def test_good_json_means_what_it_says(value: Any, ascii_only: bool) -> None:
    assert parse_json(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    try:
        parse_json(raw)
    except BadRequestError:
        return


@given(JSON)
def test_any_value_becomes_a_thing_or_is_refused(value: Any) -> None:
    try:
        made = convert(value, Thing)
    except BadRequestError:
        return
    assert isinstance(made, Thing)
