"""Who is given a connection file, for which session, in which viewer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from broker.domain.errors import EngineError
from broker.limits import VIEWER_PASSES_MAX, VIEWER_PASSES_PER_SESSION_MAX
from broker.services.viewers import VNC_PASSWORD_CHARS
from tests.support.viewers import School, values_of, vnc_school


@pytest.fixture
async def school(tmp_path: Path) -> AsyncIterator[School]:
    async with vnc_school(tmp_path, {"TRIVIUM_VIEWER_HOST": "desk.example"}) as (made, _):
        yield made


async def test_the_file_names_the_broker_as_the_settings_say(school: School) -> None:
    await school.connected()
    assert values_of(await school.file("vnc"))["host"] == "desk.example"


async def test_each_file_has_a_password_of_its_own(school: School) -> None:
    await school.connected()
    given = {(await school.password())[:VNC_PASSWORD_CHARS] for _ in range(20)}
    assert len(given) == 20


async def test_nobody_opens_somebody_elses_session(school: School) -> None:
    await school.connected("ann")
    people = school.app.people
    assert (await school.file("vnc", who=people["bob"])).code == "resource.not_found"
    assert (await school.file("vnc", who=people["alice"])).code == "auth.forbidden"
    assert school.app.services.viewers.waiting() == ()


async def test_a_session_that_is_at_another_sign_in_is_opened_there(school: School) -> None:
    await school.connected()
    ann = await school.app.services.directory.user("ann")
    elsewhere = await school.app.signed_in(ann)
    reply = await school.file("vnc", who=elsewhere)
    assert reply.code == "resource.conflict"
    assert "another place" in reply.json["detail"]


async def test_a_session_that_is_over_is_not_opened(school: School) -> None:
    session_id = await school.connected()
    await school.app.call("DELETE", f"/sessions/{session_id}", school.app.people["ann"])
    assert (await school.file("vnc")).code == "resource.conflict"


async def test_a_viewer_that_the_broker_does_not_listen_for_is_not_offered(
    school: School,
) -> None:
    await school.connected()
    reply = await school.file("rdp")
    assert (reply.status, reply.code) == (409, "engine.unsupported")
    assert reply.json["detail"] == "this broker takes no RDP viewers"


async def test_a_viewer_that_the_desktop_has_no_display_for_is_not_offered(
    school: School,
) -> None:
    await school.connected()
    school.engine.ports.clear()
    reply = await school.file("vnc")
    assert reply.code == "engine.unsupported"
    assert reply.json["detail"] == "this desktop's host has no VNC display"


@pytest.mark.parametrize("body", [{}, {"kind": "x11"}, {"kind": "VNC"}, {"kind": None}])
async def test_a_kind_that_does_not_exist_is_a_bad_request(
    school: School, body: dict[str, object]
) -> None:
    await school.connected()
    path = f"/sessions/{school.sessions['ann']}/connection"
    reply = await school.app.call("POST", path, school.app.people["ann"], body=body)
    assert reply.code == "request.invalid"


async def test_only_so_many_passwords_wait_at_once(
    school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert VIEWER_PASSES_MAX > 3
    monkeypatch.setattr("broker.limits.VIEWER_PASSES_MAX", 3)
    await school.connected()
    assert [(await school.file("vnc")).status for _ in range(4)] == [200, 200, 200, 503]
    school.app.clock.shift_s += 3600
    assert (await school.file("vnc")).status == 200


async def test_who_asks_for_file_after_file_takes_no_other_persons_room(
    school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.limits.VIEWER_PASSES_MAX", VIEWER_PASSES_PER_SESSION_MAX + 1)
    await school.connected("ann")
    await school.connected("bob")
    given = [
        await school.password(username="ann") for _ in range(3 * VIEWER_PASSES_PER_SESSION_MAX)
    ]
    assert (await school.file("vnc", "bob")).status == 200
    waiting = {one.secret for one in school.app.services.viewers.waiting()}
    assert waiting >= set(given[-VIEWER_PASSES_PER_SESSION_MAX:]), "the newest work"
    assert len(waiting) == VIEWER_PASSES_PER_SESSION_MAX + 1


async def test_the_trail_has_each_file_and_none_of_their_secrets(school: School) -> None:
    session_id = await school.connected()
    secret = await school.password()
    alice = school.app.people["alice"]
    reply = await school.app.call("GET", "/audit?action=session.open_viewer", alice)
    (entry,) = reply.json["items"]
    assert (entry["session_id"], entry["outcome"]) == (session_id, "done")
    assert entry["details"]["fields"] == {"kind": "vnc"}
    assert secret.encode() not in reply.body


# ------------------------------------------------------------------------- in the console


async def page(school: School) -> str:
    headers = {"Cookie": f"trivium={school.app.people['ann'].token}"}
    path = f"/me/sessions/{school.sessions['ann']}"
    reply = await school.app.call("GET", path, headers=headers, base="")
    assert reply.status == 200, reply.body
    return reply.body.decode()


async def test_the_persons_page_offers_the_viewers_that_there_are(school: School) -> None:
    await school.connected()
    shown = await page(school)
    assert 'name="kind" value="vnc"' in shown
    assert 'value="rdp"' not in shown
    school.engine.ports.clear()
    assert 'name="kind"' not in await page(school)


async def test_what_an_engine_says_of_a_host_reaches_its_person_without_the_name(
    school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: object) -> frozenset[str]:
        raise EngineError("server-1 cannot be reached")

    await school.connected()
    monkeypatch.setattr(school.engine, "displays", away)
    reply = await school.file("vnc")
    assert (reply.code, reply.json["detail"]) == ("engine.failed", "a host cannot be reached")
