"""The support staff's commands, without SSH around them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.errors import UnavailableError
from broker.domain.model import Role
from broker.gateway.support import Subject, SupportConsole, plain
from broker.limits import EXTEND_S_MAX, SSH_LINE_CHARS_MAX, SSH_ROWS_MAX
from tests.support.staff import DECISION, SESSION, FakeStaff, identity

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
        ("hosts", "16,384 of 131,072 MiB"),
        ("hosts server", "a fan is loud"),
        ("hosts elsewhere", "None."),
        ("why ses_1", "it was free"),
        ("why pool library", "· server-1 has room"),
        ("why ses_404", "resource.not_found"),
        ("why host h404", "resource.not_found"),
        ("why", "Usage: why [desktop|pool|host] ID"),
        ("why printer lp0", "Usage: why"),
        ("preview uwe", "place 3 in the queue"),
        ("preview uwe", "for nobody"),
        ("preview nobody", "resource.not_found"),
        ("preview", "Usage: preview USER"),
        ("message ses_1", "Usage: message ID TEXT"),
        ("message ses_404 hello", "resource.not_found"),
        ("extend ses_1", "Usage: extend ID MINUTES"),
        ("extend ses_404 5", "resource.not_found"),
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


async def test_a_message_goes_as_typed_in_the_name_of_who_wrote_it() -> None:
    staff = FakeStaff()
    shown = await ask("message ses_1   The room  closes; save *now* 明天见", staff)
    assert staff.told == [("olga", "ses_1", "The room  closes; save *now* 明天见")]
    assert "(olga, 0 s ago)" in shown
    assert "\x1b" not in await ask("message ses_1 \x1b[31mred", staff)
    assert staff.told[-1][2] == "[31mred"


async def test_a_session_is_extended_by_minutes_within_the_limit() -> None:
    staff = FakeStaff()
    assert "in 2 h" in await ask("extend ses_1 90", staff)
    most = EXTEND_S_MAX // 60
    await ask(f"extend ses_1 {most}", staff)
    assert staff.extended == [("olga", "ses_1", 5400), ("olga", "ses_1", EXTEND_S_MAX)]
    for minutes in ("0", "-1", str(most + 1), "1.5", "١٠", "²", "soon", "9" * 900):
        text = await ask(f"extend ses_1 {minutes}", staff)
        assert text == f"Usage: extend ID MINUTES, from 1 to {most}\n"
    assert len(staff.extended) == 2


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        ("why ses_1", (Subject.SESSION, "ses_1")),
        ("why session ses_1", (Subject.SESSION, "ses_1")),
        ("why pool Reading room", (Subject.POOL, "Reading room")),
        ("why host  server-1", (Subject.HOST, "server-1")),
        ("why desktop LAB-01/lab", (Subject.DESKTOP, "LAB-01/lab")),
        ("why pool", (Subject.SESSION, "pool")),
    ],
)
async def test_why_is_asked_of_a_session_or_of_what_is_named_first(
    line: str, asked: tuple[Subject, str]
) -> None:
    staff = FakeStaff()
    await ask(line, staff)
    assert staff.explained == [(*asked, SSH_ROWS_MAX)]


async def test_many_decisions_with_many_reasons_are_cut_at_the_rows_of_one_answer() -> None:
    staff = FakeStaff()
    staff.decisions = [replace(DECISION, reasons=("a", "b", "c"))] * SSH_ROWS_MAX
    text = await ask("why ses_1", staff)
    assert text.count("it was free") == SSH_ROWS_MAX // 4
    assert f"Only the first {SSH_ROWS_MAX}" in text


async def test_a_long_reason_is_told_to_its_end() -> None:
    staff = FakeStaff()
    staff.decisions = [replace(DECISION, text="because " * 60 + "end.")]
    assert "end." in await ask("why ses_1", staff)


async def test_a_preview_says_when_nobody_can_sign_in_with_the_account() -> None:
    staff = FakeStaff()
    assert "disabled" not in await ask("preview uwe", staff)
    staff.enabled = False
    assert "The account is disabled" in await ask("preview uwe", staff)


@pytest.mark.parametrize("line", ["end ses_1", "message ses_1 hello", "extend ses_1 5"])
async def test_who_may_only_read_is_refused_the_rest_and_not_offered_it(line: str) -> None:
    staff = FakeStaff()
    assert "auth.forbidden" in await ask(line, staff, who="adam")
    assert (staff.ended, staff.told, staff.extended) == ([], [], [])
    assert f"{line.split(maxsplit=1)[0]} ID" not in await ask("help", staff, who="adam")
    assert f"{line.split(maxsplit=1)[0]} ID" in await ask("help", staff)
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
