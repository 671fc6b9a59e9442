"""What a roster means beside what is stored: idempotent, all or nothing, references checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.model import DesktopState, Endpoint, LogOff, Pool, PoolKind, Role, User
from broker.domain.roster import FILES
from broker.ports import Engine, RosterChange
from broker.services.known_profiles import KnownProfiles
from broker.services.roster import Known
from tests.support.engines import simulated_engine
from tests.support.prompt_engine import PromptEngine
from tests.support.roster_files import GOOD
from tests.support.rosters import NOW, after, plan

FULL = after(Known(), plan(GOOD).change)


def changed(**texts: str) -> dict[str, str]:
    """The good roster with some files replaced: users="…" for users.csv."""
    return {**GOOD, **{f"{name}.csv": text for name, text in texts.items()}}


def where(texts: dict[str, str], known: Known | None = None) -> list[tuple[str, int, str]]:
    made = plan(texts, known)
    assert not made.problems or made.change == RosterChange()
    return [(one.file, one.line, one.field) for one in made.problems]


def test_a_good_roster_makes_every_record() -> None:
    made = plan(GOOD)
    assert made.problems == ()
    users = {user.username: user for user in made.change.users}
    groups = {group.name: group for group in made.change.groups}
    pools = {pool.name: pool for pool in made.change.pools}
    assert users["li.ming"].group_ids == (groups["7-maple"].id,)
    assert users["ops"].role is Role.OPERATOR
    assert pools["library"].group_ids == (groups["7-maple"].id, groups["teachers"].id)
    assert pools["art"].kind is PoolKind.DEDICATED
    assert pools["art"].lease_s == 14_400
    assert pools["lab"].log_off is LogOff.RESET
    assert pools["lab"].lease_s == 0
    assert {host.name: host.profile for host in made.change.hosts} == {
        "srv-1": "bare-metal",
        "srv-2": "bare-metal",
    }
    assert made.counts["users"].as_fields() == {"new": 3, "changed": 0, "same": 0}
    assert made.counts["entitlements"].as_fields() == {"new": 4, "changed": 0, "same": 0}


def test_fat_endpoints_get_a_desktop_for_each_place_and_thin_ones_none() -> None:
    made = plan(GOOD)
    pools = {pool.name: pool for pool in made.change.pools}
    endpoints = {endpoint.name: endpoint for endpoint in made.change.endpoints}
    places = {desktop.name: desktop for desktop in made.change.desktops}
    assert set(places) == {"art-01", "lab-01", "lab-01/art"}
    assert endpoints["lib-01"].pool_ids == (pools["library"].id,)
    first = places["lab-01"]
    assert (first.pool_id, first.endpoint_id) == (pools["lab"].id, endpoints["lab-01"].id)
    assert (first.state, first.generation) == (DesktopState.UNAVAILABLE, 1)
    assert first.resources == pools["lab"].resources
    assert places["lab-01/art"].pool_id == pools["art"].id


def test_the_same_roster_twice_changes_nothing() -> None:
    again = plan(GOOD, FULL, now=NOW + 5000, ids="new-")
    assert again.change == RosterChange()
    for kind, count in again.counts.items():
        assert (count.new, count.changed) == (0, 0), kind
    assert again.counts["users"].same == 3


def test_the_order_in_which_the_store_gives_groups_and_pools_back_is_no_change() -> None:
    def turned(pool: Pool) -> Pool:
        return replace(pool, group_ids=pool.group_ids[::-1])

    def user_turned(user: User) -> User:
        return replace(user, group_ids=user.group_ids[::-1])

    def endpoint_turned(endpoint: Endpoint) -> Endpoint:
        return replace(endpoint, pool_ids=endpoint.pool_ids[::-1])

    known = replace(
        FULL,
        pools={name: turned(pool) for name, pool in FULL.pools.items()},
        users={name: user_turned(user) for name, user in FULL.users.items()},
        endpoints={name: endpoint_turned(one) for name, one in FULL.endpoints.items()},
    )
    assert plan(GOOD, known).change == RosterChange()


def test_a_changed_line_changes_only_its_record_and_keeps_the_id() -> None:
    texts = {"users.csv": "username,display_name\nli.ming,Li Ming\n"}
    made = plan(texts, FULL)
    assert made.counts["users"].as_fields() == {"new": 0, "changed": 1, "same": 0}
    (user,) = made.change.users
    assert user == replace(FULL.users["li.ming"], display_name="Li Ming")


def test_a_column_left_out_and_an_empty_cell_keep_what_is_stored() -> None:
    texts = {
        "users.csv": "username,display_name,role\nops,,\n",
        "groups.csv": "name,title\nteachers,\n",
        "hosts.csv": "name,cpus,memory_mib\nsrv-1,64,524288\n",
        "endpoints.csv": "name,kind\nlab-01,fat\n",
    }
    assert plan(texts, FULL).change == RosterChange()


def test_a_disabled_account_a_state_and_a_key_are_kept() -> None:
    known = replace(
        FULL,
        users={**FULL.users, "ops": replace(FULL.users["ops"], enabled=False)},
        endpoints={
            **FULL.endpoints,
            "lab-01": replace(FULL.endpoints["lab-01"], public_key=b"k" * 32),
        },
    )
    texts = {
        "users.csv": "username,display_name\nops,Olga\n",
        "endpoints.csv": "name,kind,location\nlab-01,fat,Lab 9\n",
    }
    change = plan(texts, known).change
    assert change.users[0].enabled is False
    assert change.endpoints[0].public_key == b"k" * 32
    assert change.endpoints[0].pool_ids == FULL.endpoints["lab-01"].pool_ids


def test_references_may_point_to_stored_records() -> None:
    texts = {
        "users.csv": "username,groups\nnew.one,teachers\n",
        "entitlements.csv": "pool,group\nlab,7-maple\n",
        "endpoints.csv": "name,kind,pools\nlab-02,fat,lab\n",
    }
    made = plan(texts, FULL)
    assert made.problems == ()
    assert made.change.users[0].group_ids == (FULL.groups["teachers"].id,)
    assert made.change.pools[0].group_ids == (FULL.groups["7-maple"].id,)
    assert [desktop.name for desktop in made.change.desktops] == ["lab-02"]


def test_entitlements_declare_the_groups_of_the_pools_they_name_and_no_others() -> None:
    made = plan({"entitlements.csv": "pool,group\nlibrary,7-maple\n"}, FULL)
    assert made.counts["entitlements"].as_fields() == {"new": 0, "changed": 1, "same": 1}
    assert made.counts["pools"].as_fields() == {"new": 0, "changed": 1, "same": 0}
    assert [pool.name for pool in made.change.pools] == ["library"]
    assert made.change.pools[0].group_ids == (FULL.groups["7-maple"].id,)


def test_a_place_added_later_carries_the_pool_in_its_name() -> None:
    made = plan({"endpoints.csv": "name,kind,pools\nart-01,fat,lab;art\n"}, FULL)
    assert [desktop.name for desktop in made.change.desktops] == ["art-01/lab"]
    assert set(made.change.endpoints[0].pool_ids) == {FULL.pools["art"].id, FULL.pools["lab"].id}


@pytest.mark.parametrize(
    ("texts", "place", "message"),
    [
        (changed(users="username,groups\nann,nobody\n"), ("users.csv", 2, "groups"), "groups.csv"),
        (
            changed(entitlements="pool,group\nattic,teachers\n"),
            ("entitlements.csv", 2, "pool"),
            "'attic' is neither in pools.csv nor stored",
        ),
        (
            changed(entitlements="pool,group\nlab,staff\n"),
            ("entitlements.csv", 2, "group"),
            "'staff'",
        ),
        (
            changed(endpoints="name,kind,pools\nx,fat,attic\n"),
            ("endpoints.csv", 2, "pools"),
            "'attic'",
        ),
        (
            changed(endpoints="name,kind,pools\nx,fat,library\n"),
            ("endpoints.csv", 2, "pools"),
            "for thin endpoints",
        ),
        (
            changed(endpoints="name,kind,pools\nx,thin,lab\n"),
            ("endpoints.csv", 2, "pools"),
            "for fat endpoints",
        ),
        (
            changed(
                images="name,version,size_gib,boot_mib\nwin11,3,40,200\nubuntu,1,0.1,120\n",
            ),
            ("images.csv", 3, "boot_mib"),
            "cannot read 120 MiB",
        ),
    ],
)
def test_a_reference_or_a_figure_that_does_not_fit_is_named(
    texts: dict[str, str], place: tuple[str, int, str], message: str
) -> None:
    made = plan(texts)
    assert [(one.file, one.line, one.field) for one in made.problems] == [place]
    assert message in made.problems[0].message
    assert made.change == RosterChange()


_POOL = "name,architecture,image,cpus,memory_mib,spares,max,log_off,lease_s\n"


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("p,vdi,win11@3,2,4096,5,,,", "max"),
        ("p,vdi,win11@3,2,4096,5,0,,", "max"),
        ("p,vdi,win11@3,2,4096,5,4,,", "spares"),
        ("p,vdi,win11@3,2,4096,5,9,,60", "lease_s"),
        ("p,idv,win11@3,2,4096,5,,,", "spares"),
        ("p,idv,win11@3,2,4096,,5,,", "max"),
        ("p,idv,win11@3,2,4096,,,delete,", "log_off"),
        ("p,idv,win11@3,2,4096,,,,0", "lease_s"),
        ("p,voi,win11@3,2,4096,,,,60", "lease_s"),
        ("p,voi,win10@3,2,4096,,,,", "image"),
        ("p,vdi,win11@3,2,4096,5,9,keep,", "log_off"),
        ("p,idv,win11@3,2,4096,,,keep,", "log_off"),
    ],
)
def test_pool_settings_that_do_not_go_together_are_named(line: str, field: str) -> None:
    assert where({"pools.csv": f"{_POOL}{line}\n"}, FULL) == [("pools.csv", 2, field)]


def test_what_a_bad_line_would_have_brought_is_not_missed_as_well() -> None:
    texts = changed(
        groups="name,title\n7-maple,\x07\nteachers,T\n",
        pools="nonsense\n",
    )
    assert where(texts) == [
        ("groups.csv", 2, "title"),
        ("pools.csv", 1, "architecture"),
        ("pools.csv", 1, "cpus"),
        ("pools.csv", 1, "image"),
        ("pools.csv", 1, "memory_mib"),
        ("pools.csv", 1, "name"),
        ("pools.csv", 1, "nonsense"),
    ]


def test_problems_of_all_files_come_at_once() -> None:
    texts = changed(
        users="username,role\nann,boss\n",
        hosts="name,cpus,memory_mib\nh,0,1024\n",
        endpoints="name,kind,pools\nx,fat,attic\n",
    )
    assert where(texts) == [
        ("endpoints.csv", 2, "pools"),
        ("hosts.csv", 2, "cpus"),
        ("users.csv", 2, "role"),
    ]


@pytest.mark.parametrize(
    ("texts", "place", "message"),
    [
        (
            {"pools.csv": _POOL + "lab,idv,ubuntu@1,4,8192,,,,\n"},
            ("pools.csv", 2, "architecture"),
            "cannot change",
        ),
        (
            {"endpoints.csv": "name,kind\nlab-01,thin\n"},
            ("endpoints.csv", 2, "kind"),
            "cannot change",
        ),
        (
            {"endpoints.csv": "name,kind,pools\nlab-01,fat,lab\n"},
            ("endpoints.csv", 2, "pools"),
            "has a place in 'art'",
        ),
        (
            {"images.csv": "name,version,size_gib,boot_mib\nwin11,3,41,200\n"},
            ("images.csv", 2, "version"),
            "new version number",
        ),
        (
            {"hosts.csv": "name,engine,cpus,memory_mib\nsrv-1,libvirt,64,524288\n"},
            ("hosts.csv", 2, "engine"),
            "cannot change",
        ),
    ],
)
def test_what_cannot_change_is_refused(
    texts: dict[str, str], place: tuple[str, int, str], message: str
) -> None:
    made = plan(texts, FULL)
    assert [(one.file, one.line, one.field) for one in made.problems] == [place]
    assert message in made.problems[0].message


def test_no_fat_endpoint_is_called_like_a_pools_machines() -> None:
    endpoint = {"endpoints.csv": "name,kind\nlibrary-007,fat\nlibrary-008,thin\nlab-001,fat\n"}
    assert where(endpoint, FULL) == [("endpoints.csv", 2, "name")]
    pool = {"pools.csv": "name,architecture,image,cpus,memory_mib,max\nart,vdi,win11@3,1,64,9\n"}
    stored = replace(FULL, pools={})
    assert where(pool, stored) == [("pools.csv", 2, "name")]


def test_a_roster_takes_no_administrator_his_role() -> None:
    boss = replace(FULL.users["ops"], role=Role.ADMINISTRATOR)
    known = replace(FULL, users={**FULL.users, "ops": boss})
    assert where({"users.csv": "username,role\nops,user\n"}, known) == [("users.csv", 2, "role")]
    assert plan({"users.csv": "username,role\nops,\n"}, known).change == RosterChange()


def test_the_brokers_own_account_is_not_in_a_roster() -> None:
    known = Known(reserved=("local-administrator",))
    texts = {"users.csv": "username\nLocal-Administrator\n"}
    assert where(texts, known) == [("users.csv", 2, "username")]


def test_host_profiles_are_checked_where_they_are_known() -> None:
    engines: dict[str, Engine] = {"simulated": simulated_engine(), "libvirt": PromptEngine()}
    known = Known(profiles=KnownProfiles(engines))
    hosts = "name,engine,profile,cpus,memory_mib\na,,turbo,1,1024\nb,vmware,,1,1024\n"
    knobs = "c,,hosted?speed=warp,1,1024\n"
    good = "d,libvirt,anything,1,1024\ne,,hosted,1,1024\nf,,hosted?migrate=0,1,1024\n"
    made = plan({"hosts.csv": hosts + knobs + good}, known)
    assert [(one.line, one.field) for one in made.problems] == [
        (2, "profile"),
        (3, "engine"),
        (4, "profile"),
    ]
    turbo, vmware, warp = [one.message for one in made.problems]
    assert turbo.startswith("'turbo' is none of bare-metal, container,")
    assert vmware == "'vmware' is none of libvirt, simulated"
    assert warp.startswith("no knob is called 'speed'; known: create_fail,")


@given(st.dictionaries(st.sampled_from(list(FILES)), st.text(max_size=120)))
def test_any_text_gives_a_change_or_problems_never_both(texts: dict[str, str]) -> None:
    where(texts, FULL)


_NAME = st.text(st.sampled_from("abcé李-. "), min_size=1, max_size=8).filter(str.strip)


@st.composite
def rosters(draw: st.DrawFn) -> dict[str, str]:
    """Rosters whose lines mostly fit together."""
    groups = draw(st.lists(_NAME, min_size=1, max_size=4))
    pools = draw(st.lists(_NAME, min_size=1, max_size=4))
    kinds = st.sampled_from(
        ["vdi,win11@3,2,4096,1,9", "idv,win11@3,2,4096,,", "voi,ubuntu@1,4,64,,"]
    )
    some = st.lists(st.sampled_from(groups), max_size=3).map(";".join)
    users = draw(st.lists(st.tuples(_NAME, some), max_size=4))
    places = st.lists(st.sampled_from(pools), max_size=2).map(";".join)
    endpoints = draw(
        st.lists(st.tuples(_NAME, st.sampled_from(["thin", "fat"]), places), max_size=4)
    )
    entitled = draw(
        st.lists(st.tuples(st.sampled_from(pools), st.sampled_from(groups)), max_size=4)
    )

    def lines(header: str, rows: Sequence[tuple[str, ...]]) -> str:
        return "\n".join([header, *(",".join(row) for row in rows)]) + "\n"

    return {
        "images.csv": GOOD["images.csv"],
        "groups.csv": lines("name", [(group,) for group in groups]),
        "pools.csv": lines(
            "name,architecture,image,cpus,memory_mib,spares,max",
            [(pool, draw(kinds)) for pool in pools],
        ),
        "users.csv": lines("username,groups", users),
        "entitlements.csv": lines("pool,group", entitled),
        "endpoints.csv": lines("name,kind,pools", endpoints),
    }


@given(rosters())
def test_importing_any_good_roster_twice_changes_nothing_the_second_time(
    texts: dict[str, str],
) -> None:
    first = plan(texts)
    if first.problems:
        assert first.change == RosterChange()
        return
    stored = after(Known(), first.change)
    second = plan(texts, stored, now=NOW + 1, ids="second-")
    assert second.problems == ()
    assert second.change == RosterChange()
    assert len({desktop.name for desktop in first.change.desktops}) == len(first.change.desktops)


def test_disk_and_network_are_read_where_a_file_gives_them_and_kept_where_not() -> None:
    head = "disk_mib,disk_iops,network_mbit"
    texts = {
        "hosts.csv": f"name,cpus,memory_mib,{head}\nsrv-1,64,524288,900000,20000,10000\n",
        "pools.csv": (
            f"name,architecture,image,cpus,memory_mib,max,{head}\n"
            "library,vdi,win11@3,2,4096,60,40960,,50\n"
        ),
    }
    known = after(FULL, plan(texts, FULL).change)
    capacity, size = known.hosts["srv-1"].capacity, known.pools["library"].resources
    assert (capacity.disk_mib, capacity.disk_iops, capacity.network_mbit) == (900000, 20000, 10000)
    assert (size.disk_mib, size.disk_iops, size.network_mbit) == (40960, 0, 50)
    assert plan(GOOD, known).change == RosterChange()


def test_a_roster_promises_no_less_than_the_api_allows() -> None:
    texts = {"hosts.csv": "name,cpus,memory_mib,overcommit_cpu\nsrv-1,64,524288,0.5\n"}
    assert where(texts, FULL) == [("hosts.csv", 2, "overcommit_cpu")]
