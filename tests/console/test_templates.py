"""What holds of every template and every static file, without a browser."""

from __future__ import annotations

import re

import pytest
from jinja2 import StrictUndefined, UndefinedError
from jinja2 import nodes as jinja_nodes

from broker.domain.errors import NotFoundError
from broker.domain.lifecycle import DESKTOP, ENDPOINT, JOB, SESSION
from broker.domain.model import (
    CampaignState,
    DesktopState,
    EndpointState,
    HostState,
    JobState,
    SessionState,
)
from broker.web.console import build_console
from broker.web.console.render import environment, template_folder
from broker.web.console.static_files import STATIC, StaticFiles
from broker.web.console.words import MEANINGS, TONES, desktop_groups
from broker.web.routes import Surface

NAMES = sorted(path.name for path in template_folder().glob("*.html"))
OWN_FILES = sorted(path for path in STATIC.glob("*") if path.is_file())
NAMED = re.compile(r"(?:static|module)\('([^']+)'\)")
"""how a template names one of them"""
INLINE = {
    "an event handler attribute": re.compile(r"""\son\w+\s*=""", re.IGNORECASE),
    "htmx's inline script": re.compile(r"hx-on|hx-vals=.js:|hx-vars", re.IGNORECASE),
    "a style attribute": re.compile(r"\sstyle\s*=", re.IGNORECASE),
    "a style element": re.compile(r"<style", re.IGNORECASE),
    "an inline script": re.compile(r"<script(?![^>]*\ssrc=)", re.IGNORECASE),
    "a script's address": re.compile(r"javascript:", re.IGNORECASE),
    "another site": re.compile(r"""(?:src|href)=["']?(?:https?:)?//""", re.IGNORECASE),
    "an unescaped value": re.compile(r"\|\s*safe|autoescape|Markup"),
}


@pytest.mark.parametrize("name", NAMES)
def test_every_template_compiles(name: str) -> None:
    assert environment(StaticFiles()).get_template(name).name == name


@pytest.mark.parametrize("name", NAMES)
def test_no_template_needs_more_than_the_content_security_policy_gives(name: str) -> None:
    text = (template_folder() / name).read_text()
    found = [what for what, pattern in INLINE.items() if pattern.search(text)]
    assert not found, f"{name} has {found}"


def test_the_inline_patterns_find_what_they_are_for() -> None:
    planted = {
        "an event handler attribute": "<a onclick=x>",
        "htmx's inline script": "<a hx-on:click='x'>",
        "a style attribute": "<p style='color:red'>",
        "a style element": "<style>p{}</style>",
        "an inline script": "<script>alert(1)</script>",
        "a script's address": "<a href='javascript:x'>",
        "another site": "<script src='https://elsewhere.example/x.js'>",
        "an unescaped value": "{{ name | safe }}",
    }
    assert planted.keys() == INLINE.keys()
    for what, text in planted.items():
        assert INLINE[what].search(text), what


def test_attributes_with_values_are_quoted() -> None:
    """An unquoted attribute would let a name with a space add attributes of its own."""
    for name in NAMES:
        text = (template_folder() / name).read_text()
        assert not re.search(r"\s[\w-]+=\{\{", text), name


def test_a_missing_value_is_an_error_and_not_an_empty_place() -> None:
    made = environment(StaticFiles())
    assert made.undefined is StrictUndefined
    with pytest.raises(UndefinedError):
        made.get_template("error.html").render(problem={"title": "x"})


def test_every_value_is_escaped() -> None:
    made = environment(StaticFiles())
    assert made.autoescape is True
    for name in NAMES:
        tree = made.parse((template_folder() / name).read_text())
        assert not list(tree.find_all(jinja_nodes.MarkSafe)), name


@pytest.mark.parametrize("name", NAMES)
def test_every_file_that_a_template_names_is_there(name: str) -> None:
    files = StaticFiles()
    for wanted in re.findall(NAMED, (template_folder() / name).read_text()):
        assert files.find(wanted).path.is_file()


def test_every_file_of_ours_is_used() -> None:
    named = {
        wanted
        for name in NAMES
        for wanted in re.findall(NAMED, (template_folder() / name).read_text())
    }
    for path in OWN_FILES:
        named |= set(re.findall(r"""(?:from|import\() ?"\./([^"/]+)\"""", path.read_text()))
    assert {path.name for path in OWN_FILES} <= named


def test_every_script_that_another_imports_is_there() -> None:
    files = StaticFiles()
    scripts = [path for path in OWN_FILES if path.suffix == ".js"]
    scripts += sorted((STATIC / "vendor" / "novnc").rglob("*.js"))
    imports = re.compile(r"""(?:\bfrom|\bimport\() ?["'](\.[^"']+)["']""")
    found = 0
    for script in scripts:
        for wanted in imports.findall(script.read_text()):
            target = (script.parent / wanted).resolve().relative_to(STATIC.resolve())
            assert files.find(target.as_posix()).path.is_file()
            found += 1
    assert found > len(scripts)


def test_scripts_that_import_others_are_kept_for_ever_with_all_that_they_import() -> None:
    files = StaticFiles()
    address = files.module_url("display.js").removeprefix("/static/")
    folder = address.rpartition("/")[0]
    assert files.asked(address, None) == (files.find("display.js"), True)
    library = "vendor/novnc/core/rfb.js"
    assert files.asked(f"{folder}/{library}", None) == (files.find(library), True)
    assert files.asked(f"@0123456789abcdef/{library}", None) == (files.find(library), False)
    assert files.asked(library, None) == (files.find(library), False)
    assert files.asked(library, files.find(library).digest) == (files.find(library), True)
    with pytest.raises(NotFoundError):
        files.asked(f"{folder}/../render.py", None)


def test_scripts_make_no_code_and_no_markup_from_text() -> None:
    makers = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|Function\("
    )
    for path in OWN_FILES:
        assert not makers.search(path.read_text()), path.name


@pytest.mark.parametrize("name", ["../render.py", "%2e%2e/render.py", "/etc/passwd", "", "vendor"])
def test_only_known_files_are_served(name: str) -> None:
    with pytest.raises(NotFoundError):
        StaticFiles().find(name)


def test_every_state_has_a_tone_and_a_meaning() -> None:
    states = {
        "desktop": DesktopState,
        "session": SessionState,
        "endpoint": EndpointState,
        "host": HostState,
        "job": JobState,
        "campaign": CampaignState,
    }
    for noun, kind in states.items():
        assert set(TONES[noun]) == set(MEANINGS[noun]) == {one.value for one in kind}, noun


def test_states_that_move_on_by_themselves_look_busy_or_waiting() -> None:
    for lifecycle in (DESKTOP, SESSION, ENDPOINT, JOB):
        for state in lifecycle.transient:
            assert TONES[lifecycle.noun][state] in {"busy", "wait"}, state


def test_the_bars_count_every_desktop_once() -> None:
    counts = {state.value: 1 for state in DesktopState if state is not DesktopState.DELETED}
    assert sum(group.count for group in desktop_groups(counts)) == len(counts)


def test_every_route_of_the_console_is_a_page() -> None:
    assert {route.surface for route in build_console().routes} == {Surface.PAGE}


def test_pages_change_nothing_but_the_sign_in() -> None:
    changing = {
        (route.method, route.path) for route in build_console().routes if route.method != "GET"
    }
    assert changing == {("POST", "/sign-in"), ("POST", "/sign-out"), ("POST", "/setup")}
