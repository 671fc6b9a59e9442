"""Commands against an API: tables for people, JSON for programs, errors with advice."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.domain.roster import FILES
from tests.support.api_documents import ENDPOINT, POOL, SESSION, USER, page
from tests.support.canned_api import Answer, Asked, CannedApi, canned_api, problem
from tests.support.cli import Ran, run
from tests.support.roster_files import GOOD


@pytest.fixture
def api() -> Iterator[CannedApi]:
    with canned_api() as made:
        yield made


def ask(api: CannedApi, *words: str, stdin: str | None = None) -> Ran:
    return run(*words, env={"TRIVIUM_URL": api.url, "TRIVIUM_TOKEN": "t0ken"}, stdin=stdin)


def test_a_list_is_a_table_for_people_and_one_document_for_programs(api: CannedApi) -> None:
    api.answers["GET /users"] = page(USER)
    shown = ask(api, "user", "list")
    assert shown.code == 0
    assert "li.ming" in shown.out
    assert "李明 Li Ming" in shown.out
    assert ask(api, "user", "list", "--json").document == {"items": [USER], "next": None}
    assert api.asked[0].token == "t0ken"


def test_a_long_list_is_read_page_by_page_up_to_the_limit(api: CannedApi) -> None:
    def users(asked: Asked) -> Answer:
        first = int(asked.query.get("after", "0"))
        count = int(asked.query["limit"])
        items = [{**USER, "username": f"u{number}"} for number in range(first, first + count)]
        return 200, {"items": items, "next": str(first + count)}

    api.answers["GET /users"] = users
    found = ask(api, "user", "list", "--limit", "700", "--json").document
    assert [one["username"] for one in found["items"]] == [f"u{number}" for number in range(700)]
    assert [asked.query["limit"] for asked in api.asked] == ["500", "200"]
    assert "--limit shows more" in ask(api, "user", "list", "--limit", "3").err


def test_filters_are_sent_as_the_api_names_them(api: CannedApi) -> None:
    api.answers["GET /sessions"] = page(SESSION)
    api.answers["GET /users/li.ming"] = (200, USER)
    api.answers["GET /pools/library"] = (200, POOL)
    words = ("--live", "--architecture", "vdi", "--user", "li.ming", "--pool", "library")
    shown = ask(api, "session", "list", *words)
    assert api.asked[-1].query == {
        "live": "true",
        "architecture": "vdi",
        "user_id": "usr_1",
        "pool_id": "pol_1",
        "limit": "50",
    }
    assert "library-007" in shown.out


@pytest.mark.parametrize(
    ("words", "route", "document", "expected"),
    [
        (("user", "show", "li.ming"), "GET /users/li.ming", USER, "07-maple"),
        (("pool", "show", "library"), "GET /pools/library", POOL, "38 ready"),
        (("session", "show", "ses_1"), "GET /sessions/ses_1", SESSION, "5,200 ms"),
        (
            ("session", "show", "ses_1"),
            "GET /sessions/ses_1",
            SESSION,
            "42,000 B/s down, 120 B/s up, round trip 18.2 ms",
        ),
        (
            ("session", "show", "ses_1"),
            "GET /sessions/ses_1",
            {**SESSION, "display": {**SESSION["display"], "round_trip_ms": None}},
            "round trip no answer yet",
        ),
        (("session", "end", "ses_1"), "DELETE /sessions/ses_1", SESSION, "li.ming"),
        (("session", "disconnect", "ses_1"), "POST /sessions/ses_1/disconnect", SESSION, "VDI"),
    ],
)
def test_one_record_is_shown_whole(
    api: CannedApi, words: tuple[str, ...], route: str, document: object, expected: str
) -> None:
    api.answers[route] = (200, document)
    assert expected in ask(api, *words).out
    assert ask(api, *words, "--json").document == document


def test_pools_show_what_is_ready_in_use_and_waited_for(api: CannedApi) -> None:
    api.answers["GET /pools"] = page(POOL, {**POOL, "name": "closed", "enabled": False})
    line = next(line for line in ask(api, "pool", "list").out.splitlines() if "library" in line)
    assert line.split()[-5:] == ["38", "12", "2", "3", "120"]
    assert "(closed)" in ask(api, "pool", "list").out


def test_a_user_is_added_and_changed_with_what_was_said_and_no_more(api: CannedApi) -> None:
    api.answers["POST /users"] = (201, USER)
    api.answers["PATCH /users/li.ming"] = (200, USER)
    ask(api, "user", "add", "li.ming", "--role", "auditor", "--group", "a", "--group", "b")
    assert api.asked[-1].body == {
        "username": "li.ming",
        "display_name": "li.ming",
        "role": "auditor",
        "groups": ["a", "b"],
    }
    ask(api, "user", "change", "li.ming", "--disable")
    assert api.asked[-1].body == {"enabled": False}
    ask(api, "user", "change", "li.ming", "--no-groups")
    assert api.asked[-1].body == {"groups": []}
    assert ask(api, "user", "change", "li.ming").code == 2
    assert ask(api, "user", "change", "li.ming", "--no-groups", "--group", "a").code == 2


def test_a_pool_is_changed_by_what_was_given(api: CannedApi) -> None:
    api.answers["PATCH /pools/library"] = (200, POOL)
    ask(api, "pool", "change", "library", "--spares", "0", "--close", "--group", "teachers")
    assert api.asked[-1].body == {"spares_min": 0, "enabled": False, "groups": ["teachers"]}
    assert ask(api, "pool", "change", "library").code == 2


def test_a_password_is_read_from_a_pipe_and_never_printed(api: CannedApi) -> None:
    api.answers["POST /users/li.ming/password"] = (204, None)
    ran = ask(api, "user", "set-password", "li.ming", stdin="correct horse battery\n")
    assert api.asked[-1].body == {"password": "correct horse battery"}
    assert ran.code == 0
    assert "correct horse" not in ran.out + ran.err


def test_a_generated_password_is_printed_once_for_whoever_asked(api: CannedApi) -> None:
    api.answers["POST /users/li.ming/password"] = (204, None)
    printed = ask(api, "user", "set-password", "li.ming", "--generate").out.strip()
    assert api.asked[-1].body == {"password": printed}
    assert len(printed) >= 40
    found = ask(api, "user", "set-password", "li.ming", "--generate", "--json").document
    assert found["password"] == api.asked[-1].body["password"]


def test_an_endpoint_is_found_by_name_and_retired_only_when_confirmed(api: CannedApi) -> None:
    api.answers["GET /endpoints"] = page({**ENDPOINT, "id": "end_0", "name": "lib-010"}, ENDPOINT)
    api.answers["POST /endpoints/end_1/retire"] = (200, {**ENDPOINT, "state": "retired"})
    assert ask(api, "endpoint", "retire", "lib-01", stdin="n\n").code == 1
    assert [asked.method for asked in api.asked] == []
    assert "retired" in ask(api, "endpoint", "retire", "lib-01", "--yes").out
    missing = ask(api, "endpoint", "show", "nowhere")
    assert missing.code == 1
    assert "no endpoint 'nowhere'" in missing.err


def test_a_refusal_is_told_with_its_advice_code_and_request(api: CannedApi) -> None:
    api.answers["GET /users"] = problem(
        403,
        "auth.forbidden",
        detail="needs read",
        advice="Ask an administrator.",
        request_id="r-17",
    )
    ran = ask(api, "user", "list")
    assert (ran.code, ran.out) == (1, "")
    for part in ("title of auth.forbidden", "needs read", "Ask an administrator.", "r-17"):
        assert part in ran.err
    as_json = ask(api, "user", "list", "--json")
    assert as_json.out == ""
    assert json.loads(as_json.err)["error"]["code"] == "auth.forbidden"


def test_what_the_broker_says_cannot_drive_the_terminal(api: CannedApi) -> None:
    api.answers["GET /users"] = page({**USER, "display_name": "\x1b[31mred[/] [bold]x"})
    out = ask(api, "user", "list").out
    assert "\x1b" not in out
    assert "\\u001b[31mred[/] [bold]x" in out


def test_nobody_at_the_address_is_exit_code_3(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    env = {"TRIVIUM_URL": f"http://127.0.0.1:{port}", "TRIVIUM_TOKEN": "x"}
    ran = run("pool", "list", env=env)
    assert ran.code == 3
    assert "trivium serve" in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("answer", [(200, "<html>hello</html>"), (502, "bad gateway")])
def test_something_else_at_the_address_is_exit_code_3(api: CannedApi, answer: Answer) -> None:
    api.answers["GET /pools"] = answer
    ran = ask(api, "pool", "list")
    assert ran.code == 3
    assert "no broker" in ran.err


def test_a_busy_broker_is_asked_again_and_other_refusals_are_not(api: CannedApi) -> None:
    tries: list[int] = []

    def busy_first(_asked: Asked) -> Answer:
        tries.append(1)
        if len(tries) < 3:
            return problem(503, "server.busy", headers={"Retry-After": "0"})
        return 201, USER

    api.answers["POST /users"] = busy_first
    assert ask(api, "user", "add", "li.ming").code == 0
    assert len(tries) == 3
    api.answers["POST /users"] = problem(503, "server.unavailable")
    before = len(api.asked)
    assert ask(api, "user", "add", "li.ming").code == 1
    assert len(api.asked) == before + 1


def test_the_local_token_is_used_on_this_machine_only(api: CannedApi, tmp_path: Path) -> None:
    (tmp_path / "local.token").write_text("local-secret\n")
    api.answers["GET /pools"] = page(POOL)
    env = {"TRIVIUM_DATA": str(tmp_path)}
    assert run("pool", "list", "--url", api.url, env=env).code == 0
    assert api.asked[-1].token == "local-secret"
    elsewhere = run("pool", "list", "--url", "http://broker.example", env=env)
    assert elsewhere.code == 1
    assert "not on this machine" in elsewhere.err
    nowhere = run("pool", "list", "--url", api.url, env={"TRIVIUM_DATA": str(tmp_path / "x")})
    assert nowhere.code == 1
    assert "local.token" in nowhere.err


def test_the_address_follows_the_listen_setting(api: CannedApi) -> None:
    api.answers["GET /pools"] = page(POOL)
    env = {"TRIVIUM_LISTEN": api.url.removeprefix("http://"), "TRIVIUM_TOKEN": "x"}
    assert run("pool", "list", env=env).code == 0


def test_a_bad_address_is_a_wrong_call() -> None:
    assert run("pool", "list", "--url", "gopher://x", env={"TRIVIUM_TOKEN": "x"}).code == 2


# ------------------------------------------------------------------------------- import


@pytest.fixture
def roster(tmp_path: Path) -> Path:
    for file, text in GOOD.items():
        (tmp_path / file).write_bytes(b"\xef\xbb\xbf" + text.encode())
    (tmp_path / "README.md").write_text("not part of it")
    return tmp_path


COUNTS = {
    "users": {"new": 3, "changed": 0, "same": 0},
    "desktops": {"new": 0, "changed": 0, "same": 0},
}


def test_an_import_sends_every_file_without_its_byte_order_mark(
    api: CannedApi, roster: Path
) -> None:
    api.answers["POST /imports"] = (200, {"counts": COUNTS})
    ran = ask(api, "import", str(roster))
    assert ran.code == 0
    assert api.asked[-1].body == {"files": dict(GOOD), "check_only": False}
    assert set(api.asked[-1].body["files"]) == set(FILES)
    assert "imported" in ran.err
    assert "desktops" not in ran.out
    assert ask(api, "import", str(roster), "--check", "--json").document == {"counts": COUNTS}
    assert api.asked[-1].body["check_only"] is True


def test_single_files_may_be_imported(api: CannedApi, roster: Path) -> None:
    api.answers["POST /imports"] = (200, {"counts": COUNTS})
    assert ask(api, "import", str(roster / "users.csv"), str(roster / "groups.csv")).code == 0
    assert set(api.asked[-1].body["files"]) == {"users.csv", "groups.csv"}
    assert ask(api, "import", str(roster / "README.md")).code == 2
    assert ask(api, "import", str(roster), str(roster / "users.csv")).code == 2
    assert ask(api, "import", str(roster / "nowhere")).code == 2


def test_a_folder_without_a_roster_is_refused(api: CannedApi, tmp_path: Path) -> None:
    ran = ask(api, "import", str(tmp_path))
    assert ran.code == 1
    assert "no roster" in ran.err


def test_bad_lines_are_shown_as_a_table_and_as_json(api: CannedApi, roster: Path) -> None:
    problems = [{"file": "users.csv", "line": 3, "field": "role", "message": "'boss' is none"}]
    api.answers["POST /imports"] = problem(422, "roster.invalid", problems=problems, more=12)
    ran = ask(api, "import", str(roster))
    assert ran.code == 1
    row = next(line for line in ran.err.splitlines() if "users.csv" in line)
    assert row.split() == ["users.csv", "3", "role", "'boss'", "is", "none"]
    assert "and 12 more" in ran.err
    error = json.loads(ask(api, "import", str(roster), "--json").err)["error"]
    assert error["problems"] == problems


def test_files_that_are_not_utf8_are_refused_here_with_all_else_that_is_wrong(
    api: CannedApi, roster: Path
) -> None:
    (roster / "users.csv").write_bytes(GOOD["users.csv"].encode("gb18030"))
    (roster / "groups.csv").write_bytes(GOOD["groups.csv"].encode("utf-16"))
    (roster / "hosts.csv").write_text("name,cpus,memory_mib\nh,x,1\n")
    ran = ask(api, "import", str(roster))
    assert ran.code == 1
    assert api.asked == []
    for part in ("UTF-16", "not UTF-8", "hosts.csv"):
        assert part in ran.err
