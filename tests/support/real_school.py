"""A whole broker over real hosts: engines by entry point, SQLite, people who sign in over HTTP.

What is asked of the broker goes through its API. The guest is the whole desktop of tools/guest,
with a person logged on at a terminal.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import pytest

from broker.domain.model import Role
from tests.support.app import PASSWORD, App, Person, running_app
from tests.support.libvirt_host import LibvirtHost
from tests.support.libvirt_lab import LibvirtLab, connected
from tests.support.real_guests import END, SERIAL_HEARD_S, RealGuests, heard_of, to_serial
from tools.guest import build

DESKTOP: Final = "desktop"
"""the image of a whole desktop"""
TINY: Final = "school"
"""the image of a guest that says that it is ready, and shows a line of text"""
GENEROUS_S: Final = 300
PEOPLE: Final = ("ann", "bob")
_MIB: Final = 256


@pytest.fixture
def desktop_lab(libvirt_lab: LibvirtLab) -> LibvirtLab:
    """The two hosts, empty, with the image of a whole desktop beside the small one."""
    volume = libvirt_lab.first.guests / f"{DESKTOP}-v1.qcow2"
    if not volume.exists():
        shutil.copy(build.image(), volume)
        for host in (libvirt_lab.first, libvirt_lab.second):
            with connected(host) as connection:
                connection.storagePoolLookupByName("trivium").refresh()
    return libvirt_lab


def roster(
    lab: LibvirtLab,
    hosts: tuple[LibvirtHost, ...],
    *,
    people: int,
    image: str,
    size: int,
    spares: int,
    kept: bool = False,
) -> dict[str, str]:
    """One pool of `size` desktops on these hosts. `kept`: as whose they are for good left them."""
    lines = [
        f"{host.name},libvirt,{lab.profile(host, clone='instant')},{4 * size},{_MIB * size},,4"
        for host in hosts
    ]
    users = [f"{name},{name.title()},user,pupils" for name in usernames(people)]
    return {
        "groups.csv": "name,title\npupils,Pupils\n",
        "users.csv": "\n".join(["username,display_name,role,groups", *users]),
        "images.csv": f"name,version,size_gib,boot_mib\n{image},1,1,100\n",
        "hosts.csv": "\n".join(
            ["name,engine,profile,cpus,memory_mib,overcommit_cpu,start_limit", *lines]
        ),
        "pools.csv": "name,title,architecture,kind,image,cpus,memory_mib,spares,max,log_off,"
        "disconnect_grace_s,lease_s\n"
        f"desk,Desk,vdi,{'dedicated' if kept else 'floating'},{image}@1,1,{_MIB},{spares},{size},"
        f"{'keep' if kept else 'reset'},600,\n",
        "entitlements.csv": "pool,group\ndesk,pupils\n",
    }


def usernames(count: int) -> list[str]:
    return [*PEOPLE, *(f"pupil{number:02}" for number in range(count - len(PEOPLE)))][:count]


class Typist(Protocol):
    async def type(self, text: str) -> None:
        """Into what a display shows, key by key."""


@dataclass(slots=True)
class RealSchool:
    """`boss`: an administrator."""

    app: App
    lab: LibvirtLab
    boss: Person
    people: list[str]
    guests: RealGuests

    # ------------------------------------------------------------------- the API

    async def ok(self, method: str, path: str, who: Person | None = None, body: Any = None) -> Any:
        """The answer's JSON; AssertionError for anything but a success."""
        answer = await self.app.call(method, path, who or self.boss, body=body)
        assert answer.status < 300, f"{method} {path}: {answer.status} {answer.body!r}"
        return answer.json if answer.body else None

    async def sign_in(self, username: str) -> Person:
        """One more sign-in with user name and password, as from another browser."""
        body = {"username": username, "password": PASSWORD}
        answer = await self.app.call("POST", "/auth/login", body=body)
        assert answer.status == 200, answer.body
        return Person(answer.json["user"]["id"], username, answer.json["token"])

    async def connect(self, who: Person) -> dict[str, Any]:
        """Ask for a desktop until there is one to open; the answer with its ticket."""

        async def given() -> dict[str, Any] | None:
            answer: dict[str, Any] = await self.ok("POST", "/sessions", who, {"pool": "desk"})
            return answer if answer["ticket"] else None

        connected: dict[str, Any] = await self.until(given, "a desktop")
        return connected

    async def session(self, session_id: str) -> dict[str, Any]:
        found: dict[str, Any] = await self.ok("GET", f"/sessions/{session_id}")
        return found

    async def in_state(self, session_id: str, state: str) -> dict[str, Any]:
        """The session, once it is in that state."""

        async def there() -> dict[str, Any] | None:
            found = await self.session(session_id)
            return found if found["state"] == state else None

        found: dict[str, Any] = await self.until(there, f"session that is {state}")
        return found

    async def desktop(self, desktop_id: str) -> dict[str, Any]:
        found: dict[str, Any] = await self.ok("GET", f"/desktops/{desktop_id}")
        return found

    async def desktops(self, **states: int) -> list[dict[str, Any]]:
        """All that are not deleted, once there are as many in each of these states and no
        others."""

        found: list[dict[str, Any]] = []

        async def there() -> bool:
            page = await self.ok("GET", "/desktops?limit=100")
            found[:] = [one for one in page["items"] if one["state"] != "deleted"]
            return Counter(one["state"] for one in found) == Counter(states)

        await self.until(there, f"{states} desktops")
        return found

    async def until(self, look: Callable[[], Awaitable[Any]], what: str) -> Any:
        """Look until the answer is something."""
        try:
            async with asyncio.timeout(GENEROUS_S):
                while not (found := await look()):
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"no {what}: {await self.story()}") from None
        return found

    async def story(self) -> str:
        """What the broker knows, for a test that failed."""
        page = await self.ok("GET", "/desktops?limit=100")
        jobs = await self.ok("GET", "/jobs?limit=100")
        told = [(one["name"], one["state"], one["note"]) for one in page["items"]]
        work = [(one["verb"], one["state"], one["error"]) for one in jobs["items"] if one["error"]]
        return f"{told} {work}"

    async def answer(self, display: Typist, desktop_id: str, command: str) -> str:
        """What a command prints that is typed into the person's terminal."""
        with self.guests.serial(desktop_id) as heard:
            await asyncio.sleep(SERIAL_HEARD_S)
            await display.type(to_serial(command))

            async def said() -> str | None:
                return text if END in (text := heard()) else None

            return heard_of(await self.until(said, f"answer to {command}"))


@contextlib.asynccontextmanager
async def real_school(
    lab: LibvirtLab,
    data: Path,
    *,
    size: int = 1,
    hosts: tuple[LibvirtHost, ...] = (),
    image: str = DESKTOP,
    people: int = len(PEOPLE),
    spares: int | None = None,
    env: Mapping[str, str] | None = None,
    kept: bool = False,
    locked: bool = False,
) -> AsyncIterator[RealSchool]:
    """A broker with the pool `desk` of `size` desktops, on the first host unless others are
    given. Its machines are left to the lab, which removes them. `env`: more of its settings.
    `locked`: a disconnect locks the screen, as it does unless a pool says otherwise."""
    env = {"TRIVIUM_DATABASE_URL": f"sqlite:///{data / 'trivium.db'}", **(env or {})}
    async with running_app(data, env=env, reconcile=True) as app:
        boss = await app.person(f"boss-{app.services.kit.ids.new('x')[-6:]}", Role.ADMINISTRATOR)
        school = RealSchool(app, lab, boss, usernames(people), RealGuests(lab))
        files = roster(
            lab,
            hosts or (lab.first,),
            people=people,
            image=image,
            size=size,
            spares=size if spares is None else spares,
            kept=kept,
        )
        await school.ok("POST", "/imports", body={"files": files, "check_only": False})
        settings = {"lock_on_disconnect": locked}
        await school.ok("PATCH", "/pools/desk", body={"settings": settings})
        passwords = dict.fromkeys(usernames(people), PASSWORD)
        await school.ok("POST", "/users/passwords", body={"passwords": passwords})
        yield school
