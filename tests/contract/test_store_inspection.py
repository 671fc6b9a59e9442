"""Looking at a database without changing it, on both kinds."""

from __future__ import annotations

import pytest

from broker.domain.errors import ConfigError, UnavailableError
from broker.store.sql.inspection import inspect_database
from tests.support.postgres import PostgresServer


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_a_migrated_database_is_known_and_up_to_date(
    dialect: str, request: pytest.FixtureRequest
) -> None:
    url: str = request.getfixturevalue("sqlite_url" if dialect == "sqlite" else "postgres_url")
    found = inspect_database(url, deep=True)
    assert (found.backend, found.known, found.up_to_date, found.faults) == (dialect, True, True, ())


def test_an_empty_database_has_no_version(postgres: PostgresServer) -> None:
    found = inspect_database(postgres.create())
    assert (found.current, found.up_to_date, found.known) == (None, False, True)


def test_no_database_is_told_without_the_drivers_words() -> None:
    with pytest.raises(UnavailableError) as refused:
        inspect_database("postgresql://nobody:hunter2@127.0.0.1:1/none")
    assert "hunter2" not in refused.value.detail
    with pytest.raises(ConfigError):
        inspect_database("mysql://x/y")
