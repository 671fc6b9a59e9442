"""Reading a roster's files: every bad line is named, and nothing makes it raise."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.model import Role
from broker.domain.roster import FILES, Problem, Problems, Roster, decode_file, read_roster
from broker.limits import ROSTER_PROBLEMS_MAX, ROSTER_ROWS_MAX
from tests.support.roster_files import GOOD


def read(texts: dict[str, str]) -> tuple[Roster, tuple[Problem, ...]]:
    problems = Problems()
    roster = read_roster(texts, problems)
    return roster, problems.listed


def problem_of(file: str, text: str) -> Problem:
    _, problems = read({file: text})
    assert len(problems) == 1, problems
    return problems[0]


def test_a_good_roster_has_no_problems_and_every_row() -> None:
    roster, problems = read(dict(GOOD))
    assert problems == ()
    assert [row.username for row in roster.users] == ["li.ming", "ann.smith", "ops"]
    assert roster.users[0].display_name == "李明"
    assert roster.users[0].role is Role.USER
    assert roster.users[1].role is None
    assert roster.users[1].groups == ("teachers", "7-maple")
    assert roster.users[2].groups == ()
    assert [row.key for row in roster.images] == ["win11@3", "ubuntu@1"]
    assert roster.endpoints[2].pools == ("lab", "art")


def test_columns_may_stand_in_any_order_and_optional_ones_be_left_out() -> None:
    roster, problems = read({"users.csv": "Groups,USERNAME\na;b;a,Wang\n"})
    assert problems == ()
    assert roster.users[0].username == "wang"
    assert roster.users[0].groups == ("a", "b")
    assert roster.users[0].display_name is None


def test_blank_lines_and_lines_of_commas_are_passed_over_and_counted() -> None:
    _, problems = read({"groups.csv": "name,title\n\na,A\n , \nb;c,B\n"})
    assert [(one.line, one.field) for one in problems] == [(5, "name")]


def test_a_cell_may_hold_commas_quotes_and_line_breaks_keep_line_numbers() -> None:
    text = 'username,display_name\r\na,"Smith, ""Bob"""\r\nb,"two\r\nlines"\r\nc d,C\r\n'
    roster, problems = read({"users.csv": text})
    assert roster.users[0].display_name == 'Smith, "Bob"'
    assert [(one.line, one.field) for one in problems] == [(3, "display_name"), (5, "username")]


@pytest.mark.parametrize(
    ("file", "text", "line", "field", "message"),
    [
        ("groups.csv", "", 0, "", "empty"),
        ("groups.csv", "\n\n", 0, "", "empty"),
        ("groups.csv", "title\nA\n", 1, "name", "missing"),
        ("groups.csv", "name,colour\na,red\n", 1, "colour", "unknown column 'colour'"),
        ("groups.csv", "name,\na,\n", 1, "", "without a name"),
        ("groups.csv", "name,name\na,a\n", 1, "name", "twice"),
        ("groups.csv", "name;title\na;A\n", 1, "", "use commas"),
        ("groups.csv", "name\ttitle\na\tA\n", 1, "", "use commas"),
        ("groups.csv", "name,title\na\n", 2, "", "1 cells where the header has 2"),
        ("groups.csv", "name,title\na,A,x\n", 2, "", "3 cells where the header has 2"),
        ("groups.csv", "name,title\n,A\n", 2, "name", "is empty"),
        ("groups.csv", "name\na\nb\na\n", 4, "name", "'a' is in line 2 already"),
        ("groups.csv", "name\na\n\0\n", 3, "", "NUL"),
        ("groups.csv", 'name\n"a\n', 2, "", "not CSV"),
        ("groups.csv", 'name\n"a"b\n', 2, "", "not CSV"),
        ("groups.csv", "name\n" + "x" * 121 + "\n", 2, "name", "121 characters"),
        ("groups.csv", "name\na\u202eb\n", 2, "name", "U+202E"),
        ("users.csv", "username\nann\nANN\n", 3, "username", "'ann' is in line 2 already"),
        ("users.csv", "username,role\nann,boss\n", 2, "role", "none of administrator, operator"),
        ("users.csv", "username,groups\nann,a/b\n", 2, "groups", "'/'"),
        ("users.csv", "username\nann smith\n", 2, "username", "space"),
        ("images.csv", "name,version,size_gib,boot_mib\nw@1,1,1,1\n", 2, "name", "'@'"),
        ("images.csv", "name,version,size_gib,boot_mib\nw,0,1,1\n", 2, "version", "from 1 to"),
        ("images.csv", "name,version,size_gib,boot_mib\nw,1.5,1,1\n", 2, "version", "whole number"),
        ("images.csv", "name,version,size_gib,boot_mib\nw,1_0,1,1\n", 2, "version", "whole number"),
        ("images.csv", "name,version,size_gib,boot_mib\nw,٣,1,1\n", 2, "version", "whole number"),
        (
            "images.csv",
            'name,version,size_gib,boot_mib\nw,1,"1,5",1\n',
            2,
            "size_gib",
            "number from",
        ),
        ("images.csv", "name,version,size_gib,boot_mib\nw,1,nan,1\n", 2, "size_gib", "number from"),
        ("images.csv", "name,version,size_gib,boot_mib\nw,1,1e3,1\n", 2, "size_gib", "number from"),
        ("hosts.csv", "name,cpus,memory_mib\nh,-4,1024\n", 2, "cpus", "'-4' is not a number"),
        ("hosts.csv", "name,cpus,memory_mib\nh,4,4 GB\n", 2, "memory_mib", "whole number"),
        ("entitlements.csv", "pool,group\np,g\np,g\n", 3, "pool", "'p;g' is in line 2 already"),
        ("endpoints.csv", "name,kind\ne,thick\n", 2, "kind", "none of thin, fat"),
        (
            "pools.csv",
            "name,architecture,image,cpus,memory_mib\np,vdi,win11,2,4096\n",
            2,
            "image",
            "name@version",
        ),
        (
            "pools.csv",
            "name,architecture,image,cpus,memory_mib\np,rds,win11@1,2,4096\n",
            2,
            "architecture",
            "none of vdi, idv, voi",
        ),
    ],
)
def test_each_kind_of_bad_line_is_named_with_its_reason(
    file: str, text: str, line: int, field: str, message: str
) -> None:
    problem = problem_of(file, text)
    assert (problem.file, problem.line, problem.field) == (file, line, field)
    assert message in problem.message


def test_every_bad_cell_of_a_line_is_named() -> None:
    _, problems = read({"hosts.csv": "name,cpus,memory_mib,start_limit\na/b,x,y,0\n"})
    assert [one.field for one in problems] == ["cpus", "memory_mib", "name", "start_limit"]


def test_an_unknown_file_is_named() -> None:
    _, problems = read({"pupils.csv": "name\n"})
    assert "pupils.csv" in problems[0].file
    assert "known: groups.csv, users.csv" in problems[0].message


def test_problems_are_listed_up_to_a_limit_and_the_rest_counted() -> None:
    problems = Problems()
    read_roster({"groups.csv": "name\n" + ";\n" * (ROSTER_PROBLEMS_MAX + 7)}, problems)
    assert len(problems.listed) == ROSTER_PROBLEMS_MAX
    assert problems.more == 7


def test_a_file_with_too_many_lines_is_refused() -> None:
    lines = "\n".join(str(number) for number in range(ROSTER_ROWS_MAX + 5))
    problem = problem_of("groups.csv", f"name\n{lines}\n")
    assert "import it in parts" in problem.message
    assert problem.line == ROSTER_ROWS_MAX + 2


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_utf8_is_read_with_and_without_a_byte_order_mark(mark: bytes) -> None:
    problems = Problems()
    text = decode_file("users.csv", mark + "username,display_name\nli,李\n".encode(), problems)
    roster = read_roster({"users.csv": text}, problems)
    assert not problems.listed
    assert roster.users[0].display_name == "李"


def test_a_byte_order_mark_that_is_still_in_the_text_is_passed_over() -> None:
    roster, problems = read({"users.csv": "\ufeffusername\nli\n"})
    assert problems == ()
    assert roster.users[0].username == "li"


@pytest.mark.parametrize(
    ("data", "line", "message"),
    [
        ("username\nli\n".encode("utf-16"), 0, "UTF-16"),
        ("username\nli\n".encode("utf-16-be"), 1, "NUL"),
        (b"username\nli\n\0\n", 3, "NUL"),
        ("username,display_name\nli,李\n".encode("gb18030"), 2, "CSV UTF-8"),
    ],
)
def test_other_encodings_are_refused_with_what_to_do(data: bytes, line: int, message: str) -> None:
    problems = Problems()
    assert decode_file("users.csv", data, problems) == ""
    assert problems.listed[0].line == line
    assert message in problems.listed[0].message


def test_decomposed_letters_are_stored_composed() -> None:
    roster, _ = read({"users.csv": "username,display_name\nJOSE\u0301,Jose\u0301\n"})
    assert roster.users[0].username == "jos\u00e9"
    assert roster.users[0].display_name == "Jos\u00e9"


@given(st.dictionaries(st.sampled_from([*FILES, "x.csv"]), st.text(max_size=200)))
def test_no_text_makes_reading_raise(texts: dict[str, str]) -> None:
    problems = Problems()
    read_roster(texts, problems)
    for problem in problems.listed:
        assert problem.message
        assert problem.message.isprintable()


_CELL = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["", "a", "1", "0", "vdi", "fat", "user", "win@1", "-1", "a;b", "é", "1.5"]),
)


@st.composite
def files_with_headers(draw: st.DrawFn) -> tuple[str, str]:
    spec = FILES[draw(st.sampled_from(list(FILES)))]
    columns = [column.name for column in spec.columns]
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(columns)
    writer.writerows(
        draw(st.lists(st.lists(_CELL, min_size=len(columns), max_size=len(columns)), max_size=6))
    )
    return spec.file, out.getvalue()


@given(files_with_headers())
def test_every_line_becomes_a_row_or_a_problem_or_is_blank(case: tuple[str, str]) -> None:
    file, text = case
    problems = Problems()
    table = read_roster({file: text}, problems).table(file)
    if not table.readable:
        assert problems.listed
        return
    records = list(csv.reader(io.StringIO(text, newline="")))[1:]
    filled = [record for record in records if any(cell.strip() for cell in record)]
    bad_lines = {problem.line for problem in problems.listed}
    assert len(table.rows) + len(bad_lines) == len(filled)
