"""Errors on their way out: every code has a status, and nothing hides the standard members."""

from __future__ import annotations

import gc

import pytest
from multidict import CIMultiDict

from broker.domain.errors import (
    BusyError,
    NotFoundError,
    RosterError,
    TooManyAttemptsError,
    TriviumError,
    every_error,
)
from broker.web.problems import STATUSES, problem_fields, problem_response, status_of


@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.code)
def test_every_error_has_a_status_of_its_own(kind: type[TriviumError]) -> None:
    assert kind in STATUSES
    assert 400 <= STATUSES[kind] <= 504


def test_codes_are_unique() -> None:
    codes = [kind.code for kind in every_error()]
    assert len(set(codes)) == len(codes)


def test_an_error_made_elsewhere_has_the_status_of_its_base() -> None:
    class PoolNotFoundError(NotFoundError):
        code = "pool.not_found"

    assert status_of(PoolNotFoundError()) == 404
    # a class that nobody holds is gone for `every_error` too
    del PoolNotFoundError
    gc.collect()


def test_an_errors_own_fields_do_not_hide_the_standard_ones() -> None:
    error = RosterError("bad", fields={"status": 200, "request_id": "mine", "problems": [1]})
    members = problem_fields(error, request_id="req_1", path="/x")
    assert (members["status"], members["request_id"], members["problems"]) == (422, "req_1", [1])


@pytest.mark.parametrize(
    ("error", "header"),
    [
        (BusyError(retry_after_s=0.2), "1"),
        (BusyError(), "1"),
        (TooManyAttemptsError(retry_after_s=7.1), "8"),
        (NotFoundError(), None),
    ],
)
def test_retry_after_is_whole_seconds_and_never_too_early(
    error: TriviumError, header: str | None
) -> None:
    answer = problem_response(error, request_id="r", path="/", headers=CIMultiDict())
    assert answer.headers.get("Retry-After") == header
    assert answer.headers["Content-Type"] == "application/problem+json"
