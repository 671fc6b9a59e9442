"""The support gateway over a real broker's services: what is done, shown, and written down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from broker.domain.audit import AuditEntry, Outcome
from broker.domain.errors import BadRequestError
from broker.domain.model import Identity
from broker.domain.settings import ServiceState
from broker.gateway.ssh import SshGateway
from broker.gateway.staff import SignedIn, Staff
from broker.gateway.support import SupportConsole
from broker.limits import NOTICE_CHARS_MAX
from broker.ports import PageQuery
from tests.support.app import PASSWORD, App, add_ready


async def signed_in(app: App, username: str) -> Identity:
    found = await Staff(app.services).authenticate(username, PASSWORD, "192.0.2.7")
    assert found is not None
    return found


async def ask(app: App, line: str, who: str = "oliver") -> str:
    """One line by somebody who signed in from 192.0.2.7."""
    console = SupportConsole(Staff(app.services))
    return (await console.run(await signed_in(app, who), line, width=200)).text


async def live(app: App, *, session_max_s: int = 3600) -> dict[str, Any]:
    pool = await app.services.pools.find("library")
    timed = replace(pool, settings=replace(pool.settings, session_max_s=session_max_s))
    await app.services.kit.store.directory.save_pool(timed, new=False)
    app.services.pools.forget()
    made = await app.call("POST", "/sessions", app.people["ann"], body={"pool": "library"})
    session: dict[str, Any] = made.json["session"]
    await app.services.sessions.live(session["id"], None, session["generation"])
    return session


async def trail(app: App, action: str) -> Sequence[AuditEntry]:
    query = PageQuery(limit=50, filters={"action": action})
    return (await app.services.kit.store.audit.entries(query)).items


async def test_a_message_reaches_the_session_and_the_trail_without_its_words(app: App) -> None:
    session = await live(app)
    shown = await ask(app, f"message {session['id']} The room closes at six.")
    assert "The room closes at six. (oliver, 0 s ago)" in shown
    stored = await app.services.kit.store.sessions.session(session["id"])
    assert stored is not None
    assert stored.notice is not None
    assert (stored.notice.text, stored.notice.sender) == ("The room closes at six.", "oliver")
    [entry] = await trail(app, "session.message")
    assert (entry.outcome, entry.source) == (Outcome.DONE, "192.0.2.7")
    assert (entry.actor, entry.session_id) == (app.people["oliver"].id, session["id"])
    assert "room closes" not in repr(entry)
    assert [one.actor for one in await trail(app, "session.noted")] == [app.people["oliver"].id]


async def test_an_extension_moves_the_end_and_is_written_down(app: App) -> None:
    session = await live(app)
    assert "in 2 h" in await ask(app, f"extend {session['id']} 90")
    stored = await app.services.kit.store.sessions.session(session["id"])
    assert stored is not None
    assert stored.active_at is not None
    an_hour_and_90_minutes_ms = (60 + 90) * 60 * 1000
    assert stored.ends_at == stored.active_at + an_hour_and_90_minutes_ms
    [entry] = await trail(app, "session.extend")
    assert entry.outcome is Outcome.DONE
    assert entry.details["fields"] == {"seconds": 5400}
    assert entry.source == "192.0.2.7"


async def test_what_the_service_refuses_is_told_and_written_down_as_refused(app: App) -> None:
    session = await live(app, session_max_s=0)
    assert "resource.conflict" in await ask(app, f"extend {session['id']} 5")
    assert "resource.not_found" in await ask(app, "extend ses_nowhere 5")
    assert "resource.not_found" in await ask(app, "message somewhere hello")
    outcomes = [one.outcome for one in await trail(app, "session.extend")]
    assert outcomes == [Outcome.REFUSED, Outcome.REFUSED]
    [entry] = await trail(app, "session.message")
    assert (entry.outcome, entry.session_id) == (Outcome.REFUSED, "")
    assert entry.details["target"] == "somewhere"


async def test_a_message_has_the_length_that_the_api_allows(app: App) -> None:
    session, staff = await live(app), Staff(app.services)
    oliver = await signed_in(app, "oliver")
    await staff.message(oliver, session["id"], "x" * NOTICE_CHARS_MAX)
    with pytest.raises(BadRequestError, match=str(NOTICE_CHARS_MAX)):
        await staff.message(oliver, session["id"], "x" * (NOTICE_CHARS_MAX + 1))


async def test_an_auditor_asks_why_and_changes_nothing(app: App) -> None:
    session = await live(app)
    assert "Ann was given library-" in await ask(app, f"why {session['id']}", who="audrey")
    for line in (f"message {session['id']} hello", f"extend {session['id']} 5"):
        assert "auth.forbidden" in await ask(app, line, who="audrey")
    assert not await trail(app, "session.message")
    assert not await trail(app, "session.extend")


async def test_why_is_answered_of_pools_hosts_and_desktops_by_name(app: App) -> None:
    session, services = await live(app), app.services
    [load] = await services.kit.store.directory.host_loads()
    await services.site.set_host_state(
        load.host.id, ServiceState.DRAINING, actor=app.people["alice"].id
    )
    assert "The host takes nothing new" in await ask(app, f"why host {load.host.name}")
    assert "Ann was given" in await ask(app, "why pool library")
    name = session["desktop"]["name"]
    assert f"Ann was given {name}" in await ask(app, f"why desktop {name}")
    assert f"Ann was given {name}" in await ask(app, f"why desktop {session['desktop']['id']}")
    for line in ("why pool nowhere", "why host nowhere", "why desktop lib", "why ses_nowhere"):
        assert "resource.not_found" in await ask(app, line)


async def test_a_desktop_is_found_behind_pages_of_those_whose_names_hold_its_own(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await live(app)
    monkeypatch.setattr("broker.gateway.staff.PAGE_LIMIT_MAX", 2)
    [load] = await app.services.kit.store.directory.host_loads()
    name = session["desktop"]["name"]
    await add_ready(app, session["pool"]["id"], f"a-{name}", load.host.id, 5)
    assert f"Ann was given {name}" in await ask(app, f"why desktop {name}")


async def test_a_preview_says_what_a_person_can_do_and_has(app: App) -> None:
    await live(app)
    shown = await ask(app, "preview ann")
    library = next(line for line in shown.splitlines() if line.startswith("library"))
    assert "has one, active" in library
    design = next(line for line in shown.splitlines() if line.startswith("design"))
    assert design.split()[1] == "no"
    assert "a desktop at once" in await ask(app, "preview bob")
    assert "resource.not_found" in await ask(app, "preview nobody")


async def test_hosts_are_shown_with_what_is_given_out(app: App) -> None:
    [load] = await app.services.kit.store.directory.host_loads()
    line = next(one for one in (await ask(app, "hosts")).splitlines() if load.host.name in one)
    assert f"{load.used.cpus:g} of" in line
    assert f"{load.used.memory_mib:,} of" in line
    assert "None." in await ask(app, "hosts nowhere")


async def test_the_address_a_client_comes_from_is_the_one_in_the_trail(
    app: App, tmp_path: Path
) -> None:
    session, staff = await live(app), Staff(app.services)
    gateway = SshGateway(
        host="127.0.0.1", port=0, host_key_path=tmp_path / "key",
        authenticate=staff.authenticate, support=staff, clock=app.clock,
    )  # fmt: skip
    await gateway.open()
    try:
        async with asyncssh.connect(
            "127.0.0.1", gateway.port, username="oliver", password=PASSWORD, known_hosts=None,
            client_keys=None, config=None, agent_path=None, preferred_auth="password",
        ) as connection:  # fmt: skip
            found = await connection.run(f"extend {session['id']} 30")
    finally:
        await gateway.close()
    assert found.exit_status == 0
    [entry] = await trail(app, "session.extend")
    assert entry.source == "127.0.0.1"


async def test_a_right_that_was_taken_away_leaves_the_address_known(app: App) -> None:
    oliver = await signed_in(app, "oliver")
    later = await Staff(app.services).refresh(oliver)
    assert isinstance(later, SignedIn)
    assert later.source == "192.0.2.7"
