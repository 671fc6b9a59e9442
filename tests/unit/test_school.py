"""The example school: sound, big enough, and what its generator writes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from broker.domain.model import Architecture, Role
from broker.domain.roster import FILES
from broker.services.known_profiles import KnownProfiles
from broker.services.roster import Known, RosterPlan
from tests.support.engines import simulated_engine
from tests.support.rosters import plan

SCHOOL = Path(__file__).parents[2] / "examples" / "school"


@pytest.fixture(scope="module")
def school() -> RosterPlan:
    texts = {file: (SCHOOL / file).read_text(encoding="utf-8") for file in FILES}
    return plan(texts, Known(profiles=KnownProfiles({"simulated": simulated_engine()})))


def test_the_school_has_no_problems_and_the_size_that_it_claims(school: RosterPlan) -> None:
    assert school.problems == ()
    roles = Counter(user.role for user in school.change.users)
    assert roles == {Role.USER: 2012, Role.AUDITOR: 2, Role.OPERATOR: 6}
    assert len(school.change.groups) == 92
    assert Counter(pool.architecture for pool in school.change.pools) == {
        Architecture.VDI: 3,
        Architecture.IDV: 2,
        Architecture.VOI: 2,
    }
    assert Counter(endpoint.kind.value for endpoint in school.change.endpoints) == {
        "thin": 130,
        "fat": 190,
    }
    assert len(school.change.desktops) == 190


def test_the_hosts_can_carry_every_machine_that_the_pools_may_have(school: RosterPlan) -> None:
    machines = [pool for pool in school.change.pools if pool.size_max]
    memory_mib = sum(pool.size_max * pool.resources.memory_mib for pool in machines)
    cpus = sum(pool.size_max * pool.resources.cpus for pool in machines)
    hosts = school.change.hosts
    assert memory_mib <= sum(host.capacity.memory_mib for host in hosts)
    assert cpus <= sum(host.capacity.cpus * host.overcommit_cpu for host in hosts)


def test_everybody_but_the_youngest_may_use_some_pool_and_every_pool_has_people(
    school: RosterPlan,
) -> None:
    entitled = {group for pool in school.change.pools for group in pool.group_ids}
    groups = {group.id: group.name for group in school.change.groups}
    without = {
        groups[user.group_ids[0]][:2]
        for user in school.change.users
        if not entitled & set(user.group_ids)
    }
    assert without == {"01", "02"}
    assert all(pool.group_ids for pool in school.change.pools)


def test_the_generator_writes_the_files_that_are_there(tmp_path: Path) -> None:
    script = shutil.copy(SCHOOL / "generate.py", tmp_path)
    subprocess.run([sys.executable, script], check=True, timeout=60)
    for file in FILES:
        assert (tmp_path / file).read_bytes() == (SCHOOL / file).read_bytes(), file
