"""The demo's course: broker, roster, endpoints, desktops, campaign, then serving."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from broker.cli.campaign_process import CampaignWishes, Outcome
from broker.cli.campaigns import cast_and_run, tell_outcome
from broker.cli.casting import CastWishes
from broker.cli.children import child, python
from broker.cli.demo_parts import (
    broker_ready,
    end_session,
    fleet_connected,
    must_not_end,
    told_counts,
    warmth,
)
from broker.cli.demo_real import PERSON, RealDesktops
from broker.cli.endpoint_choice import choose, roster_places
from broker.cli.errors import CommandError
from broker.cli.fleet_process import FleetOptions, fleet_process
from broker.cli.output import Output, clean, short_path
from broker.cli.private import read_json
from broker.cli.remote import Access, Remote, connected, path_of
from broker.cli.roster import import_texts, roster_files, roster_texts
from broker.cli.steps import Steps
from broker.config import Config
from broker.domain.roster import Problems, read_roster
from broker.system import SystemClock

WARM_S: Final = 180.0
"""for the spares to be ready; after it the campaign begins with what there is"""
SETTLE_S: Final = 120.0
"""for what an earlier run left behind to be over"""
LOOK_S: Final = 0.5
"""between two looks at how far something is"""
PEOPLE_PER_ARRIVAL: Final = 1.5
"""so that nobody is needed twice at once"""
NAME: Final = "demo"
"""of the campaign and its profile"""
WARM_SHARE: Final = 0.9
STALE_SHARE: Final = 0.3
"""of the fat endpoints nine in ten have every image cached, three in ten of those the last one"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoWishes:
    """`env`: settings for the broker's process, beside what it inherits. `real`: the golden image
    of real desktops, which there are until it is interrupted."""

    config: Config
    env: Mapping[str, str]
    roster: Path
    endpoints: int
    duration_s: float
    once: bool
    real: Path | None = None


class Demo:
    def __init__(self, wishes: DemoWishes, output: Output) -> None:
        self._wishes = wishes
        self._output = output
        self._steps = Steps(output, SystemClock())
        self._url = ""
        self._setup_url: str | None = None
        self._real = (
            RealDesktops(wishes.config.data, wishes.real, self._steps) if wishes.real else None
        )

    async def run(self) -> Outcome:
        """The whole course. Answers after the report when asked to run once, else never.

        Raises:
            CommandError: a part could not be started, or ended by itself.
        """
        try:
            with self._steps.shown():
                return await self._course()
        except asyncio.CancelledError:
            self._steps.tell("[green]✓[/] everything is stopped")
            raise

    async def _course(self) -> Outcome:
        config = self._wishes.config
        self._steps.tell(
            f"[bold]Trivium demo[/]   simulated steps {config.speed:g} times faster, images "
            f"{config.bytes_scale} times smaller than in life, seed {config.seed}"
        )
        async with self._broker() as access, connected(access) as remote:
            texts = roster_texts(roster_files((self._wishes.roster,)))
            with self._steps.step("roster") as step:
                answer = await import_texts(remote, texts, check_only=False)
                step.end(told_counts(answer["counts"]))
            async with self._fleet(remote) as fat:
                try:
                    await self._settle(remote)
                    if self._real is not None:
                        await self._real.settle(remote)
                    await self._warm(remote, fat)
                    outcome = await self._measure(remote, access, texts)
                    self._tell(outcome)
                    if not self._wishes.once:
                        await self._serve(remote)
                except asyncio.CancelledError:
                    self._steps.tell("[dim]stopping endpoints and broker …[/]")
                    raise
                return outcome

    async def _serve(self, remote: Remote) -> None:
        """For ever; with real desktops, if these are wanted and can be had."""
        if self._real is not None:
            try:
                async with self._real.running(remote) as password:
                    self._steps.tell(
                        f"[bold]real desktops[/]   sign in as {PERSON}, password {password}, and "
                        "connect under My desktops"
                    )
                    await asyncio.Event().wait()
            except CommandError as error:
                self._steps.tell(
                    f"[yellow]no real desktops:[/] {clean(f'{error.title}: {error.detail}')}"
                )
        await asyncio.Event().wait()

    # ------------------------------------------------------------------ broker

    @asynccontextmanager
    async def _broker(self) -> AsyncIterator[Access]:
        """A broker in a process of its own, watched: that it ends by itself is an error here."""
        wishes, data = self._wishes, self._wishes.config.data
        if "sqlite" in wishes.config.database_url and not (data / "trivium.db").exists():
            # Keys of another database's endpoints would be refused for good.
            identities = data / "fleet" / "identities.json"
            identities.unlink(missing_ok=True)
        command = python("broker", "serve", "--json")
        async with AsyncExitStack() as stack:
            with self._steps.step("broker") as step:
                step.note("starting")
                process = await stack.enter_async_context(
                    child("broker", command, data / "logs" / "broker.log", wishes.env)
                )
                ready = await broker_ready(process)
                self._url = str(ready["url"])
                step.end(f"{clean(self._url)}   data in {clean(short_path(data))}")
            self._setup_url = ready.get("setup_url")
            token = (data / "local.token").read_text("ascii").strip()
            access = Access(url=f"http://{ready['address']}", token=token, data=data)
            async with asyncio.TaskGroup() as tasks:
                watch = tasks.create_task(must_not_end(process, "The broker ended by itself"))
                yield access
                watch.cancel()

    async def _settle(self, remote: Remote) -> None:
        """End what a campaign left behind that was cut off: its sessions, its own record."""
        async for campaign in remote.every("campaigns", state="running"):
            if campaign["name"] == NAME:
                where = path_of("campaigns", campaign["id"])
                await remote.patch(where, {"state": "failed", "verdict": "invalid"})
        people = read_json(self._wishes.config.data / "campaign" / "people.json") or {}
        ours = set(people.get("passwords", ()))

        async def left() -> list[dict[str, Any]]:
            every = [one async for one in remote.every("sessions", live="true")]
            return [one for one in every if one["user"]["username"] in ours]

        sessions = await left() if ours else []
        if not sessions:
            return
        with self._steps.step("left over") as step:
            for one in sessions:
                if one["state"] != "ending":
                    await end_session(remote, one["id"])
            still = len(sessions)
            async with asyncio.timeout(SETTLE_S):
                while still:
                    step.note(f"{still} sessions of an earlier run end")
                    await asyncio.sleep(LOOK_S)
                    still = len(await left())
            step.end(f"{len(sessions)} sessions of an earlier run are over")

    # ------------------------------------------------------------------ endpoints, desktops

    @asynccontextmanager
    async def _fleet(self, remote: Remote) -> AsyncIterator[int]:
        """The endpoints, once they are connected; watched like the broker. Yields how many are
        fat."""
        config = self._wishes.config
        options = FleetOptions(
            data=config.data,
            speed=config.speed,
            seed=config.seed,
            warm=WARM_SHARE,
            stale=STALE_SHARE,
            ramp_s=5.0,
        )
        places = choose(await roster_places(remote), self._wishes.endpoints, None)
        async with AsyncExitStack() as stack:
            with self._steps.step("endpoints") as step:
                process = await stack.enter_async_context(fleet_process(remote, places, options))
                await fleet_connected(process, len(places), step)
                kinds = {kind: sum(one.kind == kind for one in places) for kind in ("thin", "fat")}
                mix = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
                step.end(f"{len(places)} online   ({mix})")
            async with asyncio.TaskGroup() as tasks:
                watch = tasks.create_task(must_not_end(process, "The endpoints ended"))
                yield kinds["fat"]
                watch.cancel()

    async def _warm(self, remote: Remote, fat: int) -> None:
        """Wait for the machines kept ready, and for the fat endpoints' own desktops."""
        with self._steps.step("desktops") as step:
            found = await warmth(remote, fat)
            try:
                async with asyncio.timeout(WARM_S):
                    while found.ready < found.wanted:
                        text = f"{found.ready} of {found.wanted} ready"
                        step.note(text, done=found.ready, total=found.wanted)
                        await asyncio.sleep(LOOK_S)
                        found = await warmth(remote, fat)
            except TimeoutError:
                step.end(f"[yellow]only {found.ready} of {found.wanted} are ready[/]")
                return
            step.end(f"{found.machines} machines ready on the servers, {found.own} at endpoints")

    # ------------------------------------------------------------------ campaign

    async def _measure(self, remote: Remote, access: Access, texts: Mapping[str, str]) -> Outcome:
        config = self._wishes.config
        people = read_roster(texts, Problems()).users
        measured = CampaignWishes(
            name=NAME,
            profile=NAME,
            seed=config.seed,
            duration_s=self._wishes.duration_s,
            command=f"trivium demo --seed {config.seed} --duration {self._wishes.duration_s:g}"
            f" --endpoints {self._wishes.endpoints}",
        )
        wishes = CastWishes(
            people=round(PEOPLE_PER_ARRIVAL * measured.arrivals),
            seed=config.seed,
            speed=config.speed,
            bytes_scale=config.bytes_scale,
            # Whoever else was added to this installation keeps his own password.
            usernames=frozenset(person.username for person in people),
        )
        return await cast_and_run(remote, access, wishes, measured, self._steps)

    def _tell(self, outcome: Outcome) -> None:
        self._steps.hide()
        pairs = [("console", clean(self._url))]
        if self._setup_url:
            pairs.append(("first administrator", clean(self._setup_url)))
            pairs.append(("", "[dim]works once, while there is no administrator[/]"))
        tell_outcome(outcome, self._output, pairs)
        if not self._wishes.once:
            self._steps.tell("\n[dim]Ctrl-C stops everything; a second run goes on from here.[/]")
