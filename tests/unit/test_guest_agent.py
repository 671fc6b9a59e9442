"""The guest agent's decisions, and that both sides of the guest protocol understand each other."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.guest import core, limits, messages
from agents.guest.core import Agent
from agents.guest.machine import Observation, Outcome
from broker import guest_wire

ROOT = Path(__file__).resolve().parent.parent.parent
IDENTITY = guest_wire.Identify(desktop_id="d1", generation=3, name="LAB-3", time_ms=5, seed="ab")
READY = Observation(ready=True, user="ann", idle_s=1.0, addresses=("10.0.0.7",))

texts = st.text(max_size=300)
whole = st.integers(min_value=-(2**63), max_value=2**63 - 1)


def agent() -> Agent:
    return Agent(boot_id="b1", system="Linux", version="1")


def said(commands: Iterable[NamedTuple]) -> list[guest_wire.FromGuest]:
    """What the engine understands of what is said."""
    lines = [each.line for each in commands if isinstance(each, core.Say)]
    found = [guest_wire.decode(line) for line in lines if line != b"\n"]
    return [each for each in found if each is not None]


def identified(one: Agent, now: float = 0.0, **changes: object) -> list[guest_wire.FromGuest]:
    """Tell the agent who it is, as the engine does; what it says then."""
    identity = guest_wire.Identify(
        **{field: getattr(IDENTITY, field) for field in IDENTITY.__struct_fields__} | changes
    )
    one.received(guest_wire.encode(identity).rstrip())
    return said(one.adopted(now, ""))


@given(texts, whole, texts, whole, texts, st.booleans())
def test_the_agent_understands_every_identify(
    desktop_id: str, generation: int, name: str, time_ms: int, seed: str, woken: bool
) -> None:
    sent = guest_wire.Identify(
        desktop_id=desktop_id, generation=generation, name=name, time_ms=time_ms, seed=seed,
        woken=woken,
    )  # fmt: skip
    assert messages.parse(guest_wire.encode(sent)) == (
        desktop_id, generation, name, time_ms, seed, woken,
    )  # fmt: skip


@given(whole)
def test_the_agent_understands_every_time(time_ms: int) -> None:
    assert messages.parse(guest_wire.encode(guest_wire.Time(time_ms=time_ms))) == (time_ms,)


@given(texts, texts, texts, texts, st.dictionaries(texts, texts, max_size=5))
def test_the_agent_understands_every_request(
    ask_id: str, what: str, text: str, sender: str, settings: dict[str, str]
) -> None:
    sent = guest_wire.Ask(id=ask_id, what=what, text=text, sender=sender, settings=settings)
    assert messages.parse(guest_wire.encode(sent)) == (ask_id, what, text, sender, settings)


@given(texts, whole, texts, texts, texts)
def test_the_engine_understands_every_hello(
    boot_id: str, generation: int, system: str, version: str, desktop_id: str
) -> None:
    line = messages.hello(
        boot_id=boot_id, system=system, agent_version=version,
        desktop_id=desktop_id, generation=generation,
    )  # fmt: skip
    assert guest_wire.decode(line) == guest_wire.Hello(
        boot_id=boot_id, protocol=guest_wire.PROTOCOL, system=system, agent_version=version,
        desktop_id=desktop_id, generation=generation,
    )  # fmt: skip


@given(
    texts,
    whole,
    st.booleans(),
    st.text(max_size=2000),
    st.none() | st.floats(min_value=0, max_value=1e9),
    st.lists(st.ip_addresses().map(str), max_size=100),
    st.text(max_size=20_000),
)
def test_the_engine_understands_every_state_however_much_there_is_to_tell(
    desktop_id: str,
    generation: int,
    ready: bool,
    user: str,
    idle_s: float | None,
    addresses: list[str],
    detail: str,
) -> None:
    line = messages.state(
        desktop_id=desktop_id, generation=generation, ready=ready, user=user, idle_s=idle_s,
        addresses=tuple(addresses), detail=detail,
    )  # fmt: skip
    state = guest_wire.decode(line)
    assert isinstance(state, guest_wire.State)
    assert (state.desktop_id, state.generation, state.ready) == (desktop_id, generation, ready)
    assert state.user == user[: limits.NAME_CHARS_MAX]
    assert state.addresses == tuple(addresses[: limits.ADDRESSES_MAX])
    assert state.idle_s == (None if idle_s is None else pytest.approx(idle_s, abs=0.06))


@given(texts, st.booleans(), st.text(max_size=20_000))
def test_the_engine_understands_every_answer(ask_id: str, ok: bool, detail: str) -> None:
    assert guest_wire.decode(messages.done(ask_id=ask_id, ok=ok, detail=detail)) == (
        guest_wire.Done(id=ask_id, ok=ok, detail=detail[: limits.DETAIL_CHARS_MAX])
    )


@given(st.binary(max_size=400))
def test_no_bytes_from_the_engine_upset_the_agent(noise: bytes) -> None:
    one = agent()
    one.opened(0.0)
    one.received(noise)
    assert said(one.observed(100.0, READY)) != []


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"7",
        b'{"type":"identify"}',
        b'{"type":"identify","desktop_id":"d","generation":true,"name":"n","time_ms":1}',
        b'{"type":"identify","desktop_id":"d","generation":"1","name":"n","time_ms":1}',
        b'{"type":"time"}',
        b'{"type":"time","time_ms":"1"}',
        b'{"type":"ask","id":7,"what":"lock"}',
        b'{"type":"ask","id":"a","what":"policy","settings":{"usb":1}}',
        b'{"type":"something new"}',
        b"[" * 16_000,
        b'{"type":"ask","id":"a","what":"lock","text":"' + b"x" * 16_384 + b'"}',
    ],
)
def test_what_is_no_message_is_passed_over(line: bytes) -> None:
    assert messages.parse(line) is None


@given(
    st.lists(st.binary(max_size=40).filter(lambda each: b"\n" not in each), max_size=8), st.data()
)
def test_lines_come_out_whole_however_the_bytes_arrive(
    lines: list[bytes], data: st.DataObject
) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    cutter = messages.Lines()
    found: list[bytes] = []
    while stream:
        size = data.draw(st.integers(min_value=1, max_value=len(stream)))
        found += cutter.feed(stream[:size])
        stream = stream[size:]
    assert found == lines


def test_a_line_that_is_too_long_is_passed_over_and_the_next_one_is_heard() -> None:
    cutter = messages.Lines()
    found: list[bytes] = []
    for _ in range(9):
        found += cutter.feed(b"x" * 4096)
    assert len(cutter._rest) < limits.LINE_BYTES_MAX
    assert found + cutter.feed(b"the end\nheard\n") == [b"heard"]


def test_both_sides_agree_on_the_limits() -> None:
    assert limits.LINE_BYTES_MAX == guest_wire.LINE_BYTES_MAX
    assert messages.PORT_NAME == guest_wire.PORT_NAME
    assert messages.PROTOCOL == guest_wire.PROTOCOL


# ---------------------------------------------------------------------------- what it says when


def test_hello_is_repeated_until_somebody_says_who_this_is() -> None:
    one = agent()
    assert said(one.opened(0.0)) == [
        guest_wire.Hello(boot_id="b1", system="Linux", agent_version="1")
    ]
    assert said(one.observed(1.0, READY)) == []
    assert len(said(one.observed(limits.HELLO_S, READY))) == 1
    identified(one)
    heard = said(one.observed(limits.HELLO_S * 2, READY))
    assert not any(isinstance(each, guest_wire.Hello) for each in heard)


def test_after_identify_comes_hello_and_then_a_state_of_that_generation() -> None:
    one = agent()
    one.opened(0.0)
    (hello,) = identified(one)
    assert isinstance(hello, guest_wire.Hello)
    assert (hello.desktop_id, hello.generation) == ("d1", 3)
    assert said(one.observed(0.0, READY)) == [
        guest_wire.State(
            desktop_id="d1", generation=3, ready=True, user="ann", idle_s=1.0,
            addresses=("10.0.0.7",),
        )
    ]  # fmt: skip


def test_nothing_is_reported_for_nobody() -> None:
    one = agent()
    one.opened(0.0)
    heard = said(one.observed(100.0, READY))
    assert not any(isinstance(each, guest_wire.State) for each in heard)


def test_a_change_is_told_at_once_and_the_idle_time_only_now_and_then() -> None:
    one = agent()
    one.opened(0.0)
    identified(one)
    one.observed(0.0, READY)
    assert said(one.observed(1.0, READY._replace(idle_s=2.0))) == []
    (left,) = said(one.observed(1.1, READY._replace(user="")))
    assert isinstance(left, guest_wire.State)
    assert left.user == ""
    assert len(said(one.observed(1.1 + limits.STATE_S, READY._replace(user="")))) == 1


def test_a_machine_from_saved_memory_takes_its_new_identity_over() -> None:
    one = agent()
    one.opened(0.0)
    identified(one)
    one.observed(0.0, READY)
    line = guest_wire.encode(
        guest_wire.Identify(desktop_id="d2", generation=1, name="LAB-4", time_ms=9)
    )
    (adopt,) = one.received(line)
    assert isinstance(adopt, core.Adopt)
    assert adopt.changed
    assert adopt.identity.name == "LAB-4"
    one.adopted(1.0, "")
    (state,) = said(one.observed(1.0, READY))
    assert isinstance(state, guest_wire.State)
    assert (state.desktop_id, state.generation) == ("d2", 1)


def test_another_desktops_memory_counts_as_woken_and_a_generation_of_its_own_does_not() -> None:
    one = agent()
    for desktop_id, generation, woken in (("d1", 1, False), ("d1", 2, False), ("d2", 1, True)):
        identity = guest_wire.Identify(
            desktop_id=desktop_id, generation=generation, name="LAB-4", time_ms=9
        )
        (adopt,) = one.received(guest_wire.encode(identity))
        assert isinstance(adopt, core.Adopt)
        assert adopt.identity.woken is woken


def test_the_same_identity_again_changes_nothing_but_is_answered() -> None:
    one = agent()
    one.opened(0.0)
    identified(one)
    one.observed(0.0, READY)
    (adopt,) = one.received(guest_wire.encode(IDENTITY))
    assert isinstance(adopt, core.Adopt)
    assert not adopt.changed
    assert len(said(one.adopted(0.1, ""))) == 1
    assert len(said(one.observed(0.1, READY))) == 1


def test_what_could_not_be_adopted_is_told() -> None:
    one = agent()
    one.opened(0.0)
    one.received(guest_wire.encode(IDENTITY))
    one.adopted(0.0, "the host name could not be set")
    (state,) = said(one.observed(0.0, READY))
    assert isinstance(state, guest_wire.State)
    assert state.detail == "the host name could not be set"


def test_an_engine_that_comes_back_hears_hello_and_the_state_again() -> None:
    one = agent()
    one.opened(0.0)
    identified(one)
    one.observed(0.0, READY)
    one.closed()
    assert said(one.observed(0.5, READY)) == []
    (hello,) = said(one.opened(1.0))
    assert isinstance(hello, guest_wire.Hello)
    assert hello.generation == 3
    assert len(said(one.observed(1.0, READY))) == 1


# --------------------------------------------------------------------------------- requests


def ask(one: Agent, ask_id: str, what: str = "lock") -> list[NamedTuple]:
    return one.received(guest_wire.encode(guest_wire.Ask(id=ask_id, what=what)))


def test_a_request_that_comes_twice_is_done_once_and_answered_each_time() -> None:
    one = agent()
    one.opened(0.0)
    (perform,) = ask(one, "a1")
    assert isinstance(perform, core.Perform)
    assert ask(one, "a1") == []
    done = guest_wire.Done(id="a1", ok=True, detail="locked")
    assert said(one.finished("a1", Outcome(ok=True, detail="locked"))) == [done]
    assert said(ask(one, "a1")) == [done]


def test_only_so_many_requests_are_carried_out_at_once() -> None:
    one = agent()
    one.opened(0.0)
    for number in range(limits.ASKS_MAX):
        assert isinstance(ask(one, f"a{number}")[0], core.Perform)
    (refused,) = said(ask(one, "more"))
    assert isinstance(refused, guest_wire.Done)
    assert not refused.ok
    one.finished("a0", Outcome(ok=True))
    assert isinstance(ask(one, "more")[0], core.Perform)


def test_only_so_many_answers_are_remembered() -> None:
    one = agent()
    for number in range(limits.ANSWERS_MAX + 5):
        ask(one, f"a{number}")
        one.finished(f"a{number}", Outcome(ok=True))
    assert len(one._answers) == limits.ANSWERS_MAX
    assert isinstance(ask(one, "a0")[0], core.Perform)


# ------------------------------------------------------------------------------ what it needs


def guest_sources() -> list[Path]:
    return sorted((ROOT / "agents" / "guest").glob("*.py"))


@pytest.mark.parametrize("source", guest_sources(), ids=lambda path: path.name)
def test_the_agent_runs_on_python_3_9_with_its_standard_library_alone(source: Path) -> None:
    tree = ast.parse(source.read_text(), feature_version=(3, 9))
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
            assert not (node.module == "agents" and node.names[0].name == "limits")
        for name in names:
            known = name.split(".")[0] in sys.stdlib_module_names
            assert known or name in {"agents", "agents.guest"} or name.startswith("agents.guest.")


def test_the_messages_are_json_without_anything_of_a_platform_in_it() -> None:
    line = messages.hello(
        boot_id="b", system="Windows 11", agent_version="1", desktop_id="", generation=0
    )
    assert set(json.loads(line)) == {"type", *guest_wire.Hello.__struct_fields__}
