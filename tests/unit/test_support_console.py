"""The support staff's commands, without SSH around them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.errors import UnavailableError
from broker.domain.model import Role
from broker.gateway.support import SupportConsole, plain
from broker.limits import SSH_LINE_CHARS_MAX, SSH_ROWS_MAX
from tests.support.staff import SESSION, FakeStaff, identity

OPERATOR = identity("olga", Role.OPERATOR)
AUDITOR = identity("adam", Role.AUDITOR)


async def ask(
    line: str, staff: FakeStaff | None = None, who: str = "olga", width: int = 120
) -> str:
    staff = staff or FakeStaff()
    answer = await SupportConsole(staff).run(identity(who, staff.people[who]), line, width=width)
    return answer.text


@pytest.mark.parametrize(
    ("line", "shows"),
    [
        ("help", "end ID"),
        ("  HELP  ", "log a session off"),
        ("whoami", "olga, operator"),
        ("overview", "12"),
        ("sessions", "wang.fang"),
        ("sessions library", "ses_1"),
        ("sessions nothing like it", "None."),
        ("session ses_1", "a ready desktop was free"),
        ("desktops", "library-001"),
        ("endpoints", "Room 101"),
        ("reboot", "There is no command reboot"),
        ("session", "Usage: session ID"),
        ("session a b", "Usage: session ID"),
        ("session ses_9", "resource.not_found"),
        ("", ""),
    ],
)
async def test_each_command_answers(line: str, shows: str) -> None:
    assert shows in await ask(line)


async def test_counts_of_nothing_are_left_out() -> None:
    assert "failed" not in await ask("overview")


async def test_end_logs_a_session_off_in_the_name_of_who_asked() -> None:
    staff = FakeStaff()
    assert "ending" in await ask("end ses_1", staff)
    assert staff.ended == [("olga", "ses_1")]


async def test_who_may_only_read_is_refused_the_rest_and_not_offered_it() -> None:
    staff = FakeStaff()
    assert "auth.forbidden" in await ask("end ses_1", staff, who="adam")
    assert staff.ended == []
    assert "end ID" not in await ask("help", staff, who="adam")
    assert "wang.fang" in await ask("sessions", staff, who="adam")


async def test_rights_are_those_of_now_not_of_the_sign_in() -> None:
    staff = FakeStaff()
    staff.people["olga"] = Role.AUDITOR
    refused = await SupportConsole(staff).run(OPERATOR, "end ses_1")
    assert "auth.forbidden" in refused.text
    staff.people["olga"] = Role.USER
    assert (await SupportConsole(staff).run(OPERATOR, "sessions")).bye
    staff.gone.add("olga")
    signed_out = await SupportConsole(staff).run(OPERATOR, "sessions")
    assert signed_out.bye
    assert signed_out.text == "You are signed out.\n"


@pytest.mark.parametrize("error", [UnavailableError("no database"), RuntimeError("driver text")])
async def test_what_fails_inside_becomes_a_sentence(error: Exception) -> None:
    staff = FakeStaff()
    staff.error = error
    text = await ask("sessions", staff)
    assert text.count("\n") == 1
    assert "Traceback" not in text
    assert "driver text" not in text


async def test_a_command_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.gateway.support.SSH_COMMAND_S", 0.02)

    class Stuck(FakeStaff):
        async def refresh(self, identity: object) -> None:
            self.hold.clear()
            await self.hold.wait()

    answer = await SupportConsole(Stuck()).run(OPERATOR, "overview")
    assert (answer.status, answer.bye) == (1, False)


async def test_what_people_typed_into_names_cannot_write_to_the_terminal() -> None:
    staff = FakeStaff()
    staff.listed = [
        replace(SESSION, username="\x1b[2J\x1b]0;owned\x07eve\u202e", why="a\nb\r\x9bc\u2028d")
    ]
    for line in ("sessions", "session ses_1"):
        text = await ask(line, staff)
        assert set(text) & set("\x1b\x07\r\x9b\u202e\u2028") == set()
        assert "eve" in text
    assert "\x1b" not in await ask("\x1b[31mwhat")


async def test_lists_are_cut_where_they_grow_too_long_and_say_so() -> None:
    staff = FakeStaff()
    staff.listed = [replace(SESSION, id=f"ses_{n}") for n in range(SSH_ROWS_MAX + 50)]
    text = await ask("sessions", staff)
    assert text.count("wang.fang") == SSH_ROWS_MAX
    assert "narrow it down" in text


async def test_wide_names_keep_their_columns_and_the_width_is_kept() -> None:
    staff = FakeStaff()
    staff.listed = [replace(SESSION, username="王芳" * 40, pool="图书馆")]
    for width in (1, 80, 10_000):
        lines = (await ask("sessions", staff, width=width)).splitlines()
        assert all(len(line) <= 240 for line in lines)


async def test_a_line_past_its_limit_is_refused_unread() -> None:
    assert "too long" in await ask("sessions " + "x" * SSH_LINE_CHARS_MAX)


@given(st.text(max_size=300))
def test_plain_text_is_printable_and_bounded(text: str) -> None:
    shown = plain(text, 100)
    assert len(shown) <= 100
    assert shown.isprintable()
