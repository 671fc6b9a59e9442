"""Errors carry a stable code, and words that show nothing of the inside."""

from __future__ import annotations

from broker.domain.errors import QueueFullError, TriviumError, every_error
from broker.domain.roster import Problem


def test_an_error_says_its_title_unless_it_has_a_detail() -> None:
    plain = TriviumError()
    assert plain.detail == str(plain) == TriviumError.title
    assert plain.retry_after_s is None
    assert plain.fields == {}
    told = QueueFullError("1000 wait", retry_after_s=3.5, fields={"pool": "lab"})
    assert told.detail == str(told) == "1000 wait"
    assert told.retry_after_s == 3.5
    assert told.fields == {"pool": "lab"}


def test_what_is_given_as_fields_may_change_afterwards() -> None:
    given = {"a": 1}
    error = TriviumError(fields=given)
    given["a"] = 2
    assert error.fields == {"a": 1}


def test_every_error_is_listed_once_with_a_code_of_its_own() -> None:
    errors = every_error()
    assert QueueFullError in errors
    assert TriviumError in errors
    assert len({one.code for one in errors}) == len(errors) == len(set(errors))


def test_a_rosters_problem_is_told_by_field() -> None:
    problem = Problem(file="users.csv", line=3, field="role", message="there is no role 'boss'")
    assert problem.as_fields() == {
        "file": "users.csv",
        "line": 3,
        "field": "role",
        "message": "there is no role 'boss'",
    }
