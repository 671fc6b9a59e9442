"""docker-compose.yml is right: each of our services comes up with its command and settings."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from tests.support.compose import (
    Compose,
    dockerfile_targets,
    interpolate,
    listening_port,
    ours,
    services,
)
from tests.support.nats import nats_server
from tests.support.postgres import PostgresServer, running_postgres
from tests.support.tree import ROOT

PASSWORD = "made-up-for-this-test"
SHORT = ("--sessions=15", "--window-s=3", "--work-s=0.5:1", "--think-s=0.2", "--turn-s=5")
"""for Locust's master: a campaign of seconds"""


def test_what_is_built_here_is_the_broker_its_fleet_and_the_load() -> None:
    assert ours().keys() == {
        "broker", "roster", "fleet", "cast", "locust-master", "locust-worker",
    }  # fmt: skip
    assert services().keys() - ours().keys() == {"postgres", "nats"}


def test_no_secret_has_a_default() -> None:
    text = (ROOT / "docker-compose.yml").read_text("utf-8")
    assert re.findall(r"\$\{[^}]*\}", text)
    for variable in re.findall(r"\$\{[^}]*\}", text):
        assert ":?" in variable, f"{variable} would be empty, or has a default"
    for name, service in services().items():
        for key, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|TOKEN", key) or "@" in value:
                assert "${" in value, f"{name}: {key}"


def test_without_its_secret_compose_refuses_and_says_where_to_look() -> None:
    url = services()["broker"]["environment"]["TRIVIUM_DATABASE_URL"]
    with pytest.raises(LookupError, match="see the head of"):
        interpolate(url, {})


def test_the_database_is_the_one_that_the_broker_asks_for() -> None:
    given = services()["postgres"]["environment"]
    url = services()["broker"]["environment"]["TRIVIUM_DATABASE_URL"]
    asked = urlsplit(interpolate(url, {"POSTGRES_PASSWORD": "x"}))
    assert (asked.username, asked.path) == (given["POSTGRES_USER"], f"/{given['POSTGRES_DB']}")
    assert asked.hostname == "postgres"
    assert given["POSTGRES_PASSWORD"] in url


@pytest.mark.parametrize("name", ours())
def test_a_service_is_built_from_a_target_that_runs_one_of_our_programs(name: str) -> None:
    target = dockerfile_targets()[ours()[name]["build"]["target"]]
    assert target.entrypoint in {("trivium",), ("trivium-agent",), ("python", "-m", "loadtests")}


def test_nothing_of_ours_runs_as_root() -> None:
    text = (ROOT / "Dockerfile").read_text("utf-8")
    stages = re.split(r"^FROM ", text, flags=re.MULTILINE)
    (base,) = (stage for stage in stages if " AS base\n" in stage.split("\nRUN")[0] + "\n")
    assert "\nUSER trivium\n" in base
    for name in {service["build"]["target"] for service in ours().values()} | {"endpoint"}:
        (stage,) = (one for one in stages if one.splitlines()[0].endswith(f" AS {name}"))
        assert stage.startswith("base AS ")
        assert "USER" not in stage


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


@pytest.fixture
async def compose(tmp_path: Path, postgres: PostgresServer) -> AsyncIterator[Compose]:
    given = services()["postgres"]["environment"]
    user, database = given["POSTGRES_USER"], given["POSTGRES_DB"]
    postgres.run(f"CREATE ROLE {user} LOGIN PASSWORD '{PASSWORD}'")
    postgres.run(f"CREATE DATABASE {database} OWNER {user}")
    there = urlsplit(postgres.url(database))
    here = urlunsplit(there._replace(netloc=f"{user}:{PASSWORD}@"))
    web, locust = listening_port(), listening_port()
    (tmp_path / "data").mkdir()
    (tmp_path / "bus").mkdir()
    async with nats_server(tmp_path / "bus") as nats:
        running = Compose(
            tmp_path,
            variables={"POSTGRES_PASSWORD": PASSWORD},
            replace={
                f"postgresql://{user}:{PASSWORD}@postgres:5432/{database}": here,
                "nats://nats:4222": nats.url,
                "0.0.0.0:8080": f"127.0.0.1:{web}",
                "127.0.0.1:8080": f"127.0.0.1:{web}",
                "localhost:8080": f"localhost:{web}",
                "5557": str(locust),
                "/data": str(tmp_path / "data"),
                "/roster": str(ROOT / "examples" / "school"),
            },
            extra={"locust-master": SHORT},
        )
        try:
            yield running
        finally:
            running.down()


@pytest.mark.timeout(600)
def test_every_service_comes_up_and_the_campaign_ends_with_a_report(
    compose: Compose, tmp_path: Path, postgres: PostgresServer
) -> None:
    compose.up("broker")
    compose.healthy("broker")
    with postgres.connect(postgres.url("trivium")) as connection:
        assert connection.execute("SELECT count(*) FROM users").fetchone() is not None

    compose.up("locust-worker")
    assert compose.alive("locust-master"), compose.log("locust-master")
    assert compose.wait_for("locust-master") in {0, 1}, compose.log("locust-master")
    report = json.loads((tmp_path / "data/reports/latest/report.json").read_bytes())
    assert report["verdict"] in {"pass", "fail"}, report
    assert report["invariants"]["double_assignments"] == 0
    arrived = sum(report["architectures"][name]["sessions"] for name in ("vdi", "idv", "voi"))
    assert arrived == 15, compose.log("locust-master")
    assert compose.alive("fleet"), compose.log("fleet")

    codes = compose.down()
    assert codes["broker"] == [0], compose.log("broker")


@pytest.mark.timeout(300)
def test_a_cast_for_more_endpoints_than_come_is_refused_with_advice(
    compose: Compose, tmp_path: Path
) -> None:
    compose.up("roster")
    assert compose.wait_for("roster") == 0, compose.log("roster")
    command = ["trivium", "campaign", "cast", "--endpoints", "5", "--wait", "0", "--set-passwords"]
    answer = subprocess.run(
        command,
        env=compose.environment("cast"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert answer.returncode == 1, answer.stderr
    assert "0 of 5" in answer.stderr
    assert "trivium fleet" in answer.stderr
    assert not (tmp_path / "data/campaign/cast.json").exists()
