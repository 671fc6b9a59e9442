"""A campaign as a child process: registered with the broker, followed, and its report read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from broker.cli.children import Child, child, python
from broker.cli.comparison import summary
from broker.cli.errors import CommandError
from broker.cli.output import clean
from broker.cli.private import read_json
from broker.cli.remote import Access, Remote, path_of

FOLDER_TIME: Final = "%Y%m%d-%H%M%S"
STAGES: Final[Mapping[str, str]] = {
    "probe": "measuring this machine",
    "run": "people arrive",
    "settle": "the broker's records come to rest",
    "report": "writing the report",
}


_BAD_VERDICTS: Final = (1, 3)
"""exit codes of a harness that did its work and found that the broker fails, or that the
measurement is not valid"""
TAIL_S: Final = 20.0
"""of a campaign's duration, after the last arrival: for work, log-off and the report"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """When people come. `per_s`: arrivals in a second, on average over the whole window."""

    says: str
    arrivals: str
    per_s: float


PROFILES: Final[Mapping[str, Profile]] = {
    "demo": Profile(says="people come by chance, all the time", arrivals="poisson", per_s=3.0),
    "bell": Profile(says="whole classes come at once", arrivals="flash", per_s=3.0),
    "ramp": Profile(says="people come evenly paced", arrivals="ramp", per_s=4.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignWishes:
    """`profile`: one of PROFILES. `duration_s`: about how long it takes. `sessions`: arrivals;
    None: as many as the profile has. `command`: how it was started, for the report."""

    name: str
    profile: str
    seed: int
    command: str
    duration_s: float = 90.0
    sessions: int | None = None
    workers: int = 1

    @property
    def window_s(self) -> float:
        """Within which people arrive."""
        return max(self.duration_s - TAIL_S, self.duration_s / 2)

    @property
    def arrivals(self) -> int:
        return self.sessions or max(3, round(PROFILES[self.profile].per_s * self.window_s))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A finished campaign. `report` is its report.json."""

    campaign_id: str
    report: Mapping[str, Any]
    folder: Path
    html: Path

    @property
    def latest(self) -> Path:
        """The report where the newest one always is."""
        return self.folder.parent / "latest" / self.html.name

    @property
    def good(self) -> bool:
        return self.report.get("verdict") == "pass"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a campaign is. `total_s` is 0 while that is not known."""

    text: str
    elapsed_s: float = 0.0
    total_s: float = 0.0


async def run_campaign(
    remote: Remote,
    access: Access,
    cast_file: Path,
    wishes: CampaignWishes,
    started_at_ms: int,
    told: Callable[[Progress], None],
) -> Outcome:
    """Run it to its end.

    Raises:
        CommandError: the harness failed. The broker's record of the campaign says so too.
    """
    begun = datetime.fromtimestamp(started_at_ms / 1000).astimezone()
    folder = access.data / "reports" / f"{begun:{FOLDER_TIME}}-{wishes.name}"
    command = python("loadtests", *_arguments(cast_file, folder, wishes))
    log = access.data / "logs" / "campaign.log"
    watch = _Watch(remote, wishes, told)
    try:
        # In place of a token for another broker that the environment may hold.
        env = {"TRIVIUM_TOKEN": access.token}
        async with child("campaign", command, log, env) as process:
            await watch.follow(process)
            _refuse_if_failed(process, await process.wait())
        return await _conclude(remote, access, watch.campaign_id, folder)
    except BaseException:
        await watch.give_up()
        raise


def _refuse_if_failed(process: Child, code: int) -> None:
    if code != 0 and code not in _BAD_VERDICTS:
        raise process.failure("The campaign could not be carried out")


def _arguments(cast_file: Path, folder: Path, wishes: CampaignWishes) -> list[str]:
    return [
        *("run", "--json", "--latest", "--cast", str(cast_file), "--out", str(folder)),
        *("--seed", str(wishes.seed), "--sessions", str(wishes.arrivals)),
        *("--arrivals", PROFILES[wishes.profile].arrivals),
        *("--window-s", f"{wishes.window_s:g}", "--workers", str(wishes.workers)),
        *("--command", wishes.command),
    ]


class _Watch:
    """Reads the harness's lines, tells how far it is, and keeps the broker's record in step."""

    def __init__(
        self, remote: Remote, wishes: CampaignWishes, told: Callable[[Progress], None]
    ) -> None:
        self._remote = remote
        self._wishes = wishes
        self._told = told
        self._total_s = wishes.duration_s
        self.campaign_id: str | None = None

    async def follow(self, process: Child) -> None:
        async for line in process.lines():
            try:
                found = json.loads(line)
            except ValueError:
                continue
            if isinstance(found, dict):
                await self._take(found)

    async def _take(self, found: Mapping[str, Any]) -> None:
        kind = found.get("type")
        if kind == "stage":
            if found.get("plan_sha256") and self.campaign_id is None:
                await self._register(str(found["plan_sha256"]))
            stage = str(found.get("stage"))
            self._told(Progress(text=STAGES.get(stage, clean(stage))))
        elif kind == "progress":
            self._told(
                Progress(
                    text=_counts(found),
                    elapsed_s=float(found.get("elapsed_s", 0.0)),
                    total_s=self._total_s,
                )
            )
        elif kind == "warning":
            self._told(Progress(text=f"[yellow]{clean(found.get('text'))}[/]"))

    async def _register(self, plan_sha256: str) -> None:
        wishes = self._wishes
        body = {"name": wishes.name, "seed": wishes.seed, "plan_sha256": plan_sha256}
        self.campaign_id = (await self._remote.post("campaigns", body))["id"]

    async def give_up(self) -> None:
        """The broker's record says that the campaign failed, if the broker can still be told."""
        if self.campaign_id is None:
            return
        body = {"state": "failed", "verdict": "invalid"}
        try:
            await self._remote.patch(path_of("campaigns", self.campaign_id), body)
        except CommandError:
            return


def _counts(found: Mapping[str, Any]) -> str:
    failed = int(found.get("failed", 0)) + int(found.get("dropped", 0))
    trouble = f"[bold red]{failed} failed[/]" if failed else "0 failed"
    return (
        f"{int(found.get('arrived', 0))} of {int(found.get('total', 0))} arrived, "
        f"{int(found.get('signing_in', 0)) + int(found.get('waiting', 0))} on their way, "
        f"[green]{int(found.get('live', 0))} live[/], {int(found.get('done', 0))} done, {trouble}"
    )


async def _conclude(
    remote: Remote, access: Access, campaign_id: str | None, folder: Path
) -> Outcome:
    report = read_json(folder / "report.json")
    html = folder / "report.html"
    if campaign_id is None or not isinstance(report, dict) or not html.is_file():
        raise CommandError(
            "The campaign left no report",
            detail=f"{folder} has no report.json and report.html",
            code="cli.no_report",
        )
    body = {
        "state": "finished",
        "verdict": report["verdict"],
        "report_path": str(html.relative_to(access.data / "reports")),
        "summary": summary(report),
    }
    await remote.patch(path_of("campaigns", campaign_id), body)
    return Outcome(campaign_id=campaign_id, report=report, folder=folder, html=html)
