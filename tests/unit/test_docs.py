"""What the documentation takes from the code is as the code says."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from broker import architectures
from broker.cli.pools import change
from broker.config import IMAGES_FOLDER
from broker.domain.settings import PoolSettings
from broker.engines.reach.ssh import KEY_FILE
from broker.engines.reach.tls import FOLDER as PKI
from tools.reference import stale

DOCS = Path(__file__).parents[2] / "docs"


def test_pages_made_from_the_code_are_fresh() -> None:
    assert stale() == [], "run `make docs`"


def test_every_phase_of_every_architecture_is_in_the_map() -> None:
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    for rules in architectures.RULES.values():
        for phase in rules.phases:
            assert f"`{phase.name}`" in page


def test_files_named_in_the_map_exist() -> None:
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    root = DOCS.parent
    named = {
        word.strip("`")
        for line in page.splitlines()
        if line.startswith("| ")
        for word in line.split()
        if word.startswith("`") and word.rstrip("`,;").endswith((".py", ".toml"))
    }
    missing = [
        one
        for one in sorted(name.rstrip("`,;") for name in named)
        if not any((root / start / one).exists() for start in ("", "broker"))
    ]
    assert not missing


def test_the_page_of_pools_says_how_each_setting_is_set() -> None:
    page = (DOCS / "pools.md").read_text(encoding="utf-8")
    options = {one.name: one.opts[0] for one in change.params}
    ways = {one.name: "`pool settings`" for one in fields(PoolSettings)}
    ways |= {name: f"`pool change {option}`" for name, option in options.items() if name}
    told: dict[str, str] = {}
    for line in page.splitlines():
        if line.startswith("| `"):
            first, way = line.split("|")[1:3]
            for name in re.findall(r"`(\w+)`", first):
                own = re.search(rf"`{name}`: (`[^`]+`)", way)
                told[name] = own[1] if own else way.strip()
    named_elsewhere = {"schedule", "time_zone"}
    assert {one.name for one in fields(PoolSettings)} - named_elsewhere <= told.keys()
    assert all(f"`{name}`" in page for name in named_elsewhere)
    assert told == {name: ways.get(name, "fixed") for name in told}


def test_the_page_of_backups_names_every_file_that_a_site_needs_beside_its_database() -> None:
    page = (DOCS / "backup.md").read_text(encoding="utf-8")
    kept = page.partition("| in the data directory |")[2]
    for name in (KEY_FILE, f"{PKI}/", "openstack/", f"{IMAGES_FOLDER}/", "ssh_host_key"):
        assert f"\n| `{name}` |" in kept, name
