"""Every test that asks for `store` or `case` runs over each implementation of that port."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from broker.ports import Store
from broker.store import open_store
from tests.support.engine_kinds import EngineKind, engines, is_real, left_out
from tests.support.engines import EngineCase
from tests.support.postgres import PostgresServer, running_postgres


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every engine is held to the contract, those of libvirt where --real asks for them; or only
    those that --engine names."""
    if "kind" in metafunc.fixturenames:
        config = metafunc.config
        kinds = engines(real=config.getoption("--real"), named=config.getoption("--engine"))
        metafunc.parametrize("kind", kinds, ids=lambda kind: kind.name, indirect=True)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What an engine does not claim is not tested for it; engines that start machines share their
    hosts, and so one worker."""
    left = [item for item in items if left_out(item)]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if not left_out(item)]
    for item in items:
        if is_real(item):
            item.add_marker(pytest.mark.xdist_group("libvirt"))


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_database(postgres: PostgresServer) -> str:
    """The address of a database with the migrated schema."""
    url = postgres.create()
    asyncio.run(_migrate(url))
    return url


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the migrated schema."""
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    asyncio.run(_migrate(f"sqlite:///{path}"))
    return path


async def _migrate(url: str) -> None:
    store = open_store(url)
    await store.open()
    await store.close()


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """The address of a fresh SQLite database."""
    path = tmp_path / "trivium.db"
    shutil.copy(sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture
def postgres_url(postgres: PostgresServer, postgres_database: str) -> str:
    """The address of an empty PostgreSQL database."""
    postgres.empty(postgres_database)
    return postgres_database


@pytest.fixture
def fresh_postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """The address of a PostgreSQL database that no test has used: no statistics, no dead rows."""
    url = postgres.create()
    asyncio.run(_migrate(url))
    yield url
    postgres.drop(url)


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest) -> str:
    if request.param == "memory":
        return "memory://"
    name = "sqlite_url" if request.param == "sqlite" else "postgres_url"
    url: str = request.getfixturevalue(name)
    return url


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    store = open_store(store_url, connections=4)
    await store.open()
    yield store
    await store.close()


@pytest.fixture(scope="session")
def libvirt_lab_started() -> Iterator[object]:
    from tests.support.libvirt_lab import running_lab  # noqa: PLC0415 - not everywhere

    with running_lab() as lab:
        yield lab


@pytest.fixture
def libvirt_lab(libvirt_lab_started: Any) -> object:
    libvirt_lab_started.clear()
    lab: object = libvirt_lab_started
    return lab


@pytest.fixture
def container_lab(libvirt_lab: Any) -> Iterator[object]:
    from tests.support.libvirt_containers import with_containers  # noqa: PLC0415 - as above

    with with_containers(libvirt_lab) as lab:
        yield lab


@pytest.fixture(scope="session")
def openstack_lab_started() -> Iterator[object]:
    from tests.support.openstack_lab import running_lab  # noqa: PLC0415 - not everywhere

    with running_lab() as lab:
        yield lab


@pytest.fixture
def openstack_lab(openstack_lab_started: Any) -> object:
    openstack_lab_started.clear()
    lab: object = openstack_lab_started
    return lab


@pytest.fixture
def kind(request: pytest.FixtureRequest) -> EngineKind:
    found: EngineKind = request.param
    return found


@pytest.fixture
def case(kind: EngineKind, request: pytest.FixtureRequest) -> EngineCase:
    """Every test that asks for `case` runs over each implementation of the Engine port that
    claims what the test needs."""
    return kind.make(request)
