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

IMAGES = "name,version,size_gib,boot_mib\n"
SAVE = "save it as UTF-8 (in a spreadsheet: CSV UTF-8)"
POOLS = "name,architecture,image,cpus,memory_mib\n"


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
        ("groups.csv", "", 0, "", "is empty; its first line names the columns"),
        ("groups.csv", "\n\n", 0, "", "is empty; its first line names the columns"),
        ("groups.csv", "title\nA\n", 1, "name", "the column is missing"),
        (
            "groups.csv",
            "name,colour\na,red\n",
            1,
            "colour",
            "unknown column 'colour'; known: name, title",
        ),
        ("groups.csv", "name,\na,\n", 1, "", "a column without a name; known: name, title"),
        ("groups.csv", "name,name\na,a\n", 1, "name", "the column is there twice"),
        ("groups.csv", "name;title\na;A\n", 1, "", "separates columns by ';' or tabs; use commas"),
        (
            "groups.csv",
            "name\ttitle\na\tA\n",
            1,
            "",
            "separates columns by ';' or tabs; use commas",
        ),
        ("groups.csv", "name,title\na\n", 2, "", "has 1 cells where the header has 2"),
        ("groups.csv", "name,title\na,A,x\n", 2, "", "has 3 cells where the header has 2"),
        ("groups.csv", "name,title\n,A\n", 2, "name", "is empty"),
        ("groups.csv", "name\na\nb\na\n", 4, "name", "'a' is in line 2 already"),
        ("groups.csv", "name\na\n\0\n", 3, "", "has a NUL character; this is not CSV text"),
        (
            "groups.csv",
            "name\n" + "x" * 121 + "\n",
            2,
            "name",
            f"'{'x' * 59}…' has 121 characters; at most 120 are allowed",
        ),
        (
            "groups.csv",
            "name\na\u202eb\n",
            2,
            "name",
            "'a\\u202eb' has a control or invisible character (U+202E)",
        ),
        ("users.csv", "username\nann\nANN\n", 3, "username", "'ann' is in line 2 already"),
        (
            "users.csv",
            "username,role\nann,boss\n",
            2,
            "role",
            "'boss' is none of administrator, operator, auditor, user",
        ),
        (
            "users.csv",
            "username,groups\nann,a/b\n",
            2,
            "groups",
            "'a/b' has a '/', which names may not have",
        ),
        (
            "users.csv",
            "username\nann smith\n",
            2,
            "username",
            "'ann smith' has a space, which user names may not have",
        ),
        (
            "images.csv",
            IMAGES + "w@1,1,1,1\n",
            2,
            "name",
            "'w@1' has an '@', which joins an image's name and version",
        ),
        *(
            (
                "images.csv",
                f"{IMAGES}w,{version},1,1\n",
                2,
                "version",
                f"'{version}' is not a whole number from 1 to 1000000000",
            )
            for version in ("0", "1.5", "1_0", "٣", "1000000001")
        ),
        *(
            (
                "images.csv",
                f'{IMAGES}w,1,"{size}",1\n',
                2,
                "size_gib",
                f"'{size}' is not a number from 0.001 to 65536",
            )
            for size in ("1,5", "nan", "1e3", "0", "65536.1")
        ),
        (
            "hosts.csv",
            "name,cpus,memory_mib\nh,-4,1024\n",
            2,
            "cpus",
            "'-4' is not a number from 0.1 to 4096",
        ),
        (
            "hosts.csv",
            "name,cpus,memory_mib\nh,4,4 GB\n",
            2,
            "memory_mib",
            "'4 GB' is not a whole number from 16 to 67108864",
        ),
        ("entitlements.csv", "pool,group\np,g\np,g\n", 3, "pool", "'p;g' is in line 2 already"),
        ("endpoints.csv", "name,kind\ne,thick\n", 2, "kind", "'thick' is none of thin, fat"),
        (
            "pools.csv",
            POOLS + "p,rds,w@1,2,4096\n",
            2,
            "architecture",
            "'rds' is none of vdi, idv, voi",
        ),
        *(
            ("pools.csv", f"{POOLS}p,vdi,{image},2,4096\n", 2, "image", message)
            for image, message in (
                ("win11", "'win11' is not of the form name@version"),
                ("win11@x", "'win11@x' is not of the form name@version"),
                ("a@b@3", "'a@b' has an '@', which joins an image's name and version"),
            )
        ),
    ],
)
def test_each_kind_of_bad_line_is_named_with_its_reason(
    file: str, text: str, line: int, field: str, message: str
) -> None:
    problem = problem_of(file, text)
    assert problem == Problem(file=file, line=line, field=field, message=message)


@pytest.mark.parametrize("text", ['name\n"a\n', 'name\n"a"b\n'])
def test_the_rest_of_a_file_is_left_unread_after_a_line_that_is_not_csv(text: str) -> None:
    problem = problem_of("groups.csv", text)
    assert (problem.file, problem.line, problem.field) == ("groups.csv", 2, "")
    assert problem.message.startswith("is not CSV (")
    assert problem.message.endswith("); the rest was not read")
    assert not read({"groups.csv": text})[0].table("groups.csv").readable


@pytest.mark.parametrize(
    "text",
    ["", "name\n\0\n", "title\nA\n", "name,name\na,a\n", "name,colour\na,red\n", "a;b\na;A\n"],
)
def test_a_file_whose_columns_are_not_known_is_present_and_not_readable(text: str) -> None:
    table = read({"groups.csv": text})[0].table("groups.csv")
    assert (table.present, table.readable, table.rows, table.keys) == (True, False, (), frozenset())


def test_a_file_that_is_not_given_is_an_empty_table() -> None:
    table = read({})[0].table("groups.csv")
    assert (table.present, table.readable, table.rows, table.keys) == (False, True, (), frozenset())


def test_every_bad_column_is_named() -> None:
    known = "known: name, title"
    _, problems = read({"groups.csv": "colour\nred\n"})
    assert [(one.field, one.message) for one in problems] == [
        ("colour", f"unknown column 'colour'; {known}"),
        ("name", "the column is missing"),
    ]
    assert problem_of("groups.csv", "a;b,name\n").message == f"unknown column 'a;b'; {known}"


def test_lines_after_a_bad_one_are_read_and_its_key_is_known() -> None:
    text = "name,title\na,A\nb\na,A\nc,a\u202eb\nd,D\n"
    roster, problems = read({"groups.csv": text})
    assert [one.line for one in problems] == [3, 4, 5]
    table = roster.table("groups.csv")
    assert [(row.line, row.name, row.title) for row in table.rows] == [(2, "a", "A"), (6, "d", "D")]
    assert table.keys == {"a", "c", "d"}
    assert table.present
    assert table.readable


def test_the_ends_of_a_range_are_inside() -> None:
    text = IMAGES + "w,1,0.001,65536\nw,1000000000,65536,0.001\n"
    roster, problems = read({"images.csv": text})
    assert problems == ()
    assert [row.version for row in roster.images] == [1, 1_000_000_000]
    assert [row.size_gib for row in roster.images] == [0.001, 65536]


def test_every_bad_cell_of_a_line_is_named() -> None:
    _, problems = read({"hosts.csv": "name,cpus,memory_mib,start_limit\na/b,x,y,0\n"})
    assert [one.field for one in problems] == ["cpus", "memory_mib", "name", "start_limit"]


def test_an_unknown_file_is_named() -> None:
    _, problems = read({"pupils.csv": "name\n"})
    known = "groups.csv, users.csv, images.csv, hosts.csv, pools.csv, entitlements.csv"
    assert problems == (
        Problem(
            file="'pupils.csv'",
            line=0,
            field="",
            message=f"is not a file of a roster; known: {known}, endpoints.csv",
        ),
    )


def test_problems_are_listed_up_to_a_limit_and_the_rest_counted() -> None:
    problems = Problems()
    read_roster({"groups.csv": "name\n" + ";\n" * (ROSTER_PROBLEMS_MAX + 7)}, problems)
    assert len(problems.listed) == ROSTER_PROBLEMS_MAX
    assert problems.more == 7


def test_a_file_with_too_many_lines_is_refused() -> None:
    lines = "\n".join(str(number) for number in range(ROSTER_ROWS_MAX + 5))
    problem = problem_of("groups.csv", f"name\n{lines}\n")
    assert problem == Problem(
        file="groups.csv",
        line=ROSTER_ROWS_MAX + 2,
        field="",
        message=f"has more than {ROSTER_ROWS_MAX} lines; import it in parts",
    )


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
        ("username\nli\n".encode("utf-16"), 0, f"is UTF-16 text; {SAVE}"),
        ("username\nli\n".encode("utf-16-be"), 1, "has a NUL byte; this is not UTF-8 text"),
        (b"username\nli\n\0\n", 3, "has a NUL byte; this is not UTF-8 text"),
        (
            "username,display_name\nli,李\n".encode("gb18030"),
            2,
            f"is not UTF-8 (byte 0xc0); {SAVE}",
        ),
    ],
)
def test_other_encodings_are_refused_with_what_to_do(data: bytes, line: int, message: str) -> None:
    problems = Problems()
    assert decode_file("users.csv", data, problems) == ""
    assert problems.listed == (Problem(file="users.csv", line=line, field="", message=message),)


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


def test_a_hosts_profile_holds_addresses_and_no_blanks() -> None:
    address = "qemu?uri=qemu%2Bunix:///system?socket=" + "/run/long" * 20
    hosts = "name,engine,profile,cpus,memory_mib\n"
    roster, problems = read({"hosts.csv": f"{hosts}one,libvirt,{address},4,8192\n"})
    assert problems == ()
    assert roster.hosts[0].profile == address
    for bad in ("qemu?append=root quiet", "qemu?pool=桌面", f"qemu?{'x' * 1000}"):
        assert problem_of("hosts.csv", f"{hosts}one,libvirt,{bad},4,8192\n").field == "profile"
