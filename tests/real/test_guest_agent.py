"""The guest agent in a real Linux guest, in plain QEMU: what an engine and a person see of it."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from broker import guest_wire
from tests.support.guest_machine import (
    GENEROUS_S,
    TIME_JUMP_S,
    WINDOW,
    GuestMachine,
    Screen,
    letters,
    machine,
    overlay,
)
from tools.guest import build

pytestmark = pytest.mark.timeout(GENEROUS_S * 3)

STOOD_S = 20
NOTICES = (1025, 260, 250, 400)
"""below the clock"""


@dataclass(frozen=True, kw_only=True)
class Golden:
    """A desktop that was booted once: what it said, and itself, saved with its memory."""

    heard: tuple[guest_wire.FromGuest, ...]
    disk: Path
    memory: Path


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    lacks = [one for one in ("qemu-system-x86_64", "apt-get", "syslinux") if not shutil.which(one)]
    assert not lacks, f"not installed: {', '.join(lacks)}; `make libvirt guest` does it"


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Golden:
    folder = tmp_path_factory.mktemp("golden")
    disk = overlay(build.image(), folder / "golden.qcow2")
    with machine(disk) as one:
        one.port.hello()
        one.port.identify("golden", 1, name="golden")
        one.port.state("address", lambda state: bool(state.addresses))
        one.wait(lambda: "GUEST-NETWORK golden" in one.serial(), "network")
        heard = tuple(one.port.heard)
        one.save(folder / "memory")
    return Golden(heard=heard, disk=disk, memory=folder / "memory")


@pytest.fixture
def clone(golden: Golden, tmp_path: Path) -> Iterator[GuestMachine]:
    """A desktop resumed from the golden one's memory, on a disk of its own."""
    with machine(overlay(golden.disk, tmp_path / "clone.qcow2"), memory=golden.memory) as one:
        yield one


def told(one: GuestMachine, ask_id: str, what: str, **more: object) -> guest_wire.Done:
    return one.port.ask(guest_wire.Ask(id=ask_id, what=what, **more))  # type: ignore[arg-type]


def settled(one: GuestMachine, area: tuple[int, int, int, int]) -> Screen:
    """The screen when that part of it has come to rest."""
    seen = one.screen()
    while True:
        time.sleep(1)
        again = one.screen()
        if again.area(*area) == seen.area(*area):
            return again
        seen = again


def test_a_booted_guest_says_hello_and_is_ready_as_who_it_was_told_to_be(golden: Golden) -> None:
    hello = golden.heard[0]
    assert isinstance(hello, guest_wire.Hello)
    assert (hello.protocol, hello.generation, hello.desktop_id) == (guest_wire.PROTOCOL, 0, "")
    assert hello.system.startswith("Linux")
    assert len(hello.boot_id) == 36
    state = golden.heard[-1]
    assert isinstance(state, guest_wire.State)
    assert (state.desktop_id, state.generation, state.ready) == ("golden", 1, True)
    assert (state.user, state.addresses, state.detail) == ("person", ("10.0.2.15",), "")


def test_a_desktop_from_saved_memory_becomes_the_one_it_is_told_to_be(clone: GuestMachine) -> None:
    tomorrow = time.time() + TIME_JUMP_S
    state = clone.port.identify("d7", 4, name="LAB 7", time_s=tomorrow)
    assert state.detail == ""
    before = clone.port.heard[: clone.port.heard.index(state)]
    reported = [one.desktop_id for one in before if not isinstance(one, guest_wire.Done)]
    assert set(reported) <= {"golden", "d7"}
    assert reported == sorted(reported, reverse=True)
    assert clone.answer("hostname") == "LAB-7"
    assert int(clone.answer("date +%s")) >= int(tomorrow)
    clone.wait(lambda: "GUEST-NETWORK LAB 7" in clone.serial(), "lease for the new name")
    clone.port.state("address", lambda one: one.addresses == ("10.0.2.15",))


def test_a_clones_own_network_card_is_taken_up_with_its_identity(clone: GuestMachine) -> None:
    clone.change_card("52:54:00:0a:0b:0c")
    clone.port.identify("d7", 4, name="d7")
    clone.wait(lambda: "GUEST-NETWORK d7" in clone.serial(), "lease for the new card")
    assert clone.answer("cat /sys/class/net/eth*/address") == "52:54:00:0a:0b:0c"
    clone.port.state("address", lambda one: bool(one.addresses))


def test_a_message_appears_beside_the_persons_work(clone: GuestMachine) -> None:
    clone.port.identify("d1", 2, name="d1")
    before = settled(clone, NOTICES)
    done = told(clone, "m1", "message", text="Please save: we restart at noon.", sender="Ann")
    assert done.ok
    clone.wait(lambda: clone.screen().area(*NOTICES) != before.area(*NOTICES), "message")
    assert clone.screen().area(*WINDOW) == before.area(*WINDOW)


def test_letters_typed_at_the_display_appear_in_the_persons_terminal(clone: GuestMachine) -> None:
    clone.port.identify("d1", 2, name="d1")
    before = settled(clone, WINDOW)
    clone.type("aba")
    clone.wait(lambda: clone.screen().area(*WINDOW) != before.area(*WINDOW), "letter")
    after = settled(clone, WINDOW)
    first, second, third = letters(before, after, 3)
    assert first == third
    assert first != second


def test_the_pointer_goes_where_the_displays_client_points(clone: GuestMachine) -> None:
    clone.port.identify("d1", 2, name="d1")
    place = (1140, 600)
    there = (place[0] - 16, place[1] - 16, 32, 32)
    empty = clone.screen().area(*there)
    clone.point(*place)
    clone.wait(lambda: clone.screen().area(*there) != empty, "pointer")
    clone.point(400, 400)
    clone.wait(lambda: clone.screen().area(*there) == empty, "pointer's leaving")


def test_log_off_ends_the_session_and_another_person_can_log_on(clone: GuestMachine) -> None:
    clone.port.identify("d1", 2, name="d1")
    clone.type("sleep 9999 & sleep 9999\n")
    done = told(clone, "o1", "log_off")
    assert done.ok
    state = clone.port.state("nobody logged on", lambda one: one.ready and not one.user)
    assert state.generation == 2
    settled(clone, WINDOW)
    clone.type("\n")
    clone.port.state("a new session", lambda one: one.ready and one.user == "person")
    settled(clone, WINDOW)
    assert "sleep 9999" not in clone.answer("ps")


def test_a_lock_covers_the_screen(clone: GuestMachine) -> None:
    clone.port.identify("d1", 2, name="d1")
    before = settled(clone, WINDOW)
    assert told(clone, "l1", "lock").ok
    clone.wait(lambda: clone.screen().area(*WINDOW) != before.area(*WINDOW), "lock")


def test_a_policy_is_laid_down_for_the_guests_own_programs(clone: GuestMachine) -> None:
    clone.port.identify("d1", 2, name="d1")
    settings = {"clipboard": "to_guest", "usb": "off"}
    assert told(clone, "p1", "policy", settings=settings).ok
    assert json.loads(clone.answer("cat /run/trivium/policy.json")) == settings


def test_what_the_agent_cannot_do_is_refused(clone: GuestMachine) -> None:
    clone.port.identify("d1", 2, name="d1")
    done = told(clone, "x1", "dance")
    assert (done.ok, done.detail) == (False, "this agent cannot do that: dance")


def test_the_idle_time_grows_until_a_key_is_pressed(clone: GuestMachine) -> None:
    clone.port.identify("d1", 2, name="d1")
    idle = clone.port.state("idleness", lambda one: (one.idle_s or 0) > 6).idle_s or 0
    clone.type("a")
    clone.port.state("input", lambda one: one.idle_s is not None and one.idle_s < idle)


def test_an_engine_that_comes_back_is_greeted_with_the_present_state(clone: GuestMachine) -> None:
    clone.port.identify("d1", 2, name="d1")
    clone.reconnect()
    again = clone.port.identify("d1", 2, name="d1")
    assert again.user == "person"
    hello = clone.port.heard[clone.port.heard.index(again) - 1]
    assert isinstance(hello, guest_wire.Hello)
    assert (hello.desktop_id, hello.generation) == ("d1", 2)


def behind(one: GuestMachine) -> float:
    """By how many seconds the guest's clock is behind; an answer takes a second or more."""
    asked = time.time()
    return asked - int(one.answer("date +%s"))


def test_a_machine_that_stood_still_has_the_right_time_once_it_is_told(
    clone: GuestMachine,
) -> None:
    clone.port.identify("d1", 2, name="d1")
    assert behind(clone) < STOOD_S / 2
    clone.stand_still(STOOD_S)
    assert behind(clone) > STOOD_S / 2
    clone.port.tell(guest_wire.Time(time_ms=int(time.time() * 1000)))
    clone.wait(lambda: behind(clone) < STOOD_S / 2, "right time")


def test_a_persons_data_outlives_a_restart_and_no_other_desktop_has_it(
    golden: Golden, tmp_path: Path
) -> None:
    disk = overlay(golden.disk, tmp_path / "mine.qcow2")
    with machine(disk, memory=golden.memory) as one:
        one.port.identify("mine", 2, name="mine")
        assert one.answer("echo kept | tee note") == "kept"
        one.press_power()
        one.process.wait(GENEROUS_S)
    with machine(disk) as one:
        assert one.port.hello().generation == 0
        one.port.identify("mine", 2, name="mine")
        settled(one, WINDOW)
        assert one.answer("cat note") == "kept"
    other = overlay(golden.disk, tmp_path / "other.qcow2")
    with machine(other, memory=golden.memory) as one:
        one.port.identify("other", 2, name="other")
        assert "No such file" in one.answer("cat note")
