"""What an OpenStack host's profile takes, and what is said where no cloud can be spoken to."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.domain.errors import ConfigError, EngineError
from broker.domain.features import Feature
from broker.engines.openstack import OpenStackEngine, build
from broker.engines.openstack.knobs import Agent, Place, parse_profile
from broker.engines.registry import EngineContext
from broker.system import SystemChance, SystemClock, SystemIds
from tests.support.builders import make_host
from tests.support.engines import listening
from tests.support.openstack_cases import INSTALLATION

CONTEXT = EngineContext(
    clock=SystemClock(), chance=SystemChance(1), ids=SystemIds(), installation_id=INSTALLATION
)


def engine(clouds: Path) -> OpenStackEngine:
    return OpenStackEngine(
        clock=CONTEXT.clock, chance=CONTEXT.chance, installation_id=INSTALLATION, clouds=clouds
    )


def test_a_profile_says_cloud_region_zone_host_network_and_disk() -> None:
    assert parse_profile(
        "nova?cloud=campus&region=north&zone=az-1&host=c1.example&network=lan&disk=40&agent=none"
    ) == Place(
        cloud="campus", region="north", zone="az-1", host="c1.example", network="lan", disk=40,
        agent=Agent.NONE,
    )  # fmt: skip
    assert parse_profile("nova") == Place(cloud="trivium", disk=20, agent=Agent.WEBSOCKET)
    assert parse_profile("nova?disk=0").disk == 0
    assert parse_profile("nova?display=none").displays == set()


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        ("qemu", "no OpenStack profile is called 'qemu'"),
        ("nova?password=x", "no knob is called 'password'"),
        ("nova?cloud", "not key=value pairs"),
        ("nova?cloud=", "knob cloud"),
        ("nova?cloud=a&cloud=b", "given twice"),
        ("nova?cloud=../etc", "knob cloud"),
        ("nova?zone=az%201", "knob zone"),
        ("nova?host=a%0Ab", "knob host"),
        ("nova?network=" + "n" * 101, "knob network"),
        ("nova?disk=-1", "knob disk"),
        ("nova?disk=16385", "knob disk"),
        ("nova?disk=%C2%B2", "knob disk"),
        ("nova?agent=channel", "knob agent"),
        ("nova?display=spice", "knob display"),
    ],
)
def test_what_a_profile_does_not_take_is_named(profile: str, said: str) -> None:
    with pytest.raises(EngineError, match=said):
        parse_profile(profile)


def test_a_machine_moves_only_between_places_that_are_compute_hosts(tmp_path: Path) -> None:
    features = engine(tmp_path / "clouds.yaml").features
    assert features(make_host(profile="nova?cloud=campus")) == {Feature.SUSPEND}
    assert features(make_host(profile="nova?cloud=campus&host=c1")) == {
        Feature.SUSPEND,
        Feature.MIGRATE,
    }
    assert features(make_host(profile="nova?nonsense")) == set()


def test_a_place_shows_vnc_unless_its_profile_says_none(tmp_path: Path) -> None:
    displays = engine(tmp_path / "clouds.yaml").displays
    assert displays(make_host(profile="nova?cloud=campus")) == {"vnc"}
    assert displays(make_host(profile="nova?cloud=campus&display=none")) == set()
    assert displays(make_host(profile="nova?nonsense")) == set()


async def test_a_clouds_file_that_cannot_be_read_fails_what_is_asked(tmp_path: Path) -> None:
    clouds = tmp_path / "clouds.yaml"
    clouds.touch(mode=0o600)
    clouds.write_text("clouds: [\n", "utf-8")
    openstack = engine(clouds)
    assert openstack.features(make_host(profile="nova?cloud=campus"))
    async with listening(openstack):
        with pytest.raises(EngineError, match=r"clouds\.yaml has no cloud campus"):
            await openstack.machines()


@pytest.mark.parametrize("mode", [None, 0o644])
async def test_a_clouds_file_that_is_missing_or_everybodys_is_not_used(
    tmp_path: Path, mode: int | None
) -> None:
    clouds = tmp_path / "clouds.yaml"
    if mode is not None:
        clouds.write_text("clouds: {}\n", "utf-8")
        clouds.chmod(mode)
    openstack = engine(clouds)
    assert openstack.features(make_host(profile="nova?cloud=campus")) == {Feature.SUSPEND}
    async with listening(openstack):
        with pytest.raises(EngineError, match=r"clouds\.yaml") as raised:
            await openstack.machines()
    assert str(tmp_path) not in raised.value.detail


async def test_a_cloud_that_is_away_or_unknown_fails_what_is_asked_and_says_no_address(
    tmp_path: Path,
) -> None:
    clouds = tmp_path / "clouds.yaml"
    clouds.write_text(
        "clouds: {campus: {auth: {auth_url: 'http://127.0.0.1:9/v3', username: u, password: p,"
        " project_name: p, user_domain_id: d, project_domain_id: d}}}\n",
        "utf-8",
    )
    clouds.chmod(0o600)
    openstack = engine(clouds)
    for cloud, said in (
        ("campus", "could not do what was asked"),
        ("nowhere", r"clouds\.yaml has no cloud nowhere"),
    ):
        openstack.features(make_host(id=cloud, profile=f"nova?cloud={cloud}"))
        async with listening(openstack):
            with pytest.raises(EngineError, match=said) as raised:
                await openstack.machines()
            assert "127.0.0.1" not in raised.value.detail
        openstack = engine(clouds)


def test_without_a_data_folder_there_is_no_such_engine() -> None:
    with pytest.raises(ConfigError, match="data folder"):
        build(CONTEXT)
