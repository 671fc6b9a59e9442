"""`python -m loadtests`: plan, run, worker, analyse, report, compare.

Exit codes: 0 the verdict is pass (or the gate holds); 1 fail; 3 invalid; 2 it could not be done
as asked; 130 interrupted.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any, Never

import click
import msgspec

from loadtests.calibration import CALIBRATION_FILE, CalibrationError, read_calibration
from loadtests.cast import CastError, read_cast
from loadtests.compare import Bands, compare
from loadtests.evidence import REPORT_HTML, REPORT_JSON, FolderError, read_evidence
from loadtests.limits import END_S, IN_FLIGHT_MAX, LIVE_S, SETTLE_S
from loadtests.options import command_of, recipe_of, recipe_options
from loadtests.plan import PlanError, check_people, encode_plan, make_plan, read_plan, sha256_of
from loadtests.report import render
from loadtests.result import Report, decode_report
from loadtests.run import (
    Campaign,
    RunError,
    Workers,
    publish_latest,
    run_campaign,
    worker_command,
    worker_environment,
    write_report,
)
from loadtests.seating import SeatingError
from loadtests.settings import Settings
from loadtests.tell import Teller, table_of
from loadtests.verdict import Criteria

EXIT_CODES = {"pass": 0, "fail": 1, "invalid": 3}
TROUBLE = (CalibrationError, CastError, FolderError, PlanError, RunError, SeatingError)

existing = click.Path(exists=True, dir_okay=False, path_type=Path)
folder_of_campaign = click.Path(exists=True, file_okay=False, path_type=Path)
calibration_option = click.option(
    "--calibration", type=existing, default=CALIBRATION_FILE, help="Figures behind the simulation."
)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")


@click.group(help=__doc__)
def main() -> None:
    signal.signal(signal.SIGTERM, _interrupt)


@main.command()
@click.option("--cast", "cast_file", type=existing, required=True, help="Who may arrive.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True)
@recipe_options
def plan(cast_file: Path, out: Path, **values: Any) -> None:
    """Decide every arrival, write the plan and print its SHA-256."""
    cast = read_cast(cast_file)
    body = encode_plan(make_plan(cast, recipe_of(cast, values)))
    out.write_bytes(body)
    click.echo(sha256_of(body))


@main.command()
@click.option("--cast", "cast_file", type=existing, required=True, help="Who may arrive.")
@click.option(
    "--out",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder of this campaign; made if missing.",
)
@click.option("--plan", "plan_file", type=existing, help="Carry out this plan, make none.")
@recipe_options
@click.option("--workers", default=1, show_default=True, help="Locust processes here.")
@click.option("--remote-workers", default=0, help="Wait for so many workers from elsewhere.")
@click.option("--bind", default="127.0.0.1", show_default=True, help="Where workers connect.")
@click.option("--port", default=0, help="Port for workers; a free one if left out.")
@click.option("--in-flight-max", default=IN_FLIGHT_MAX, show_default=True)
@click.option("--live-s", default=LIVE_S, show_default=True, help="Due to live, at most.")
@click.option("--end-s", default=END_S, show_default=True, help="Log-off, at most.")
@click.option("--settle-s", default=SETTLE_S, show_default=True)
@click.option("--latest", is_flag=True, help="Point `latest` beside the folder at it.")
@click.option("--command", default=None, help="How this run was started, for the report.")
@calibration_option
@json_option
def run(cast_file: Path, folder: Path, plan_file: Path | None, **values: Any) -> None:
    """Carry out a campaign and write its report."""
    tell = Teller(as_json=values["as_json"])
    cast = read_cast(cast_file)
    if plan_file is None:
        made = make_plan(cast, recipe_of(cast, values))
    else:
        made, _ = read_plan(plan_file)
        check_people(made, cast)
    url = cast.url.rstrip("/")
    folder.mkdir(parents=True, exist_ok=True)
    report = run_campaign(
        Campaign(
            cast=cast,
            cast_file=cast_file,
            plan=made,
            settings=Settings(
                url=url,
                in_flight_max=values["in_flight_max"],
                live_s=values["live_s"],
                end_s=values["end_s"],
                settle_s=values["settle_s"],
            ),
            folder=folder,
            workers=Workers(
                processes=values["workers"],
                remote=values["remote_workers"],
                bind=values["bind"],
                port=values["port"],
            ),
            calibration=read_calibration(values["calibration"]),
            criteria=Criteria(),
            token=os.environ.get("TRIVIUM_TOKEN") or cast.token,
            command=values["command"] or command_of(made.recipe),
        ),
        tell,
    )
    if values["latest"]:
        publish_latest(folder)
    _finish(report, folder, tell)


@main.command()
@click.option("--master-host", required=True)
@click.option("--master-port", type=int, required=True)
@click.option("--cast", "cast_file", type=existing, required=True)
@click.option("--campaign", "folder", type=folder_of_campaign, required=True)
def worker(master_host: str, master_port: int, cast_file: Path, folder: Path) -> None:
    """Carry load from this machine for a `run --remote-workers` elsewhere.

    Both must see the same campaign folder and cast.
    """
    command = worker_command(master_host, master_port)
    os.execve(command[0], command, worker_environment(folder, cast_file))  # noqa: S606


@main.command()
@click.argument("folder", type=folder_of_campaign)
@calibration_option
@json_option
def analyse(folder: Path, calibration: Path, *, as_json: bool) -> None:
    """Compute a campaign's report again from its raw data."""
    evidence = read_evidence(folder)
    report = write_report(folder, evidence, read_calibration(calibration), Criteria())
    _finish(report, folder, Teller(as_json=as_json))


@main.command()
@click.argument("folder", type=folder_of_campaign)
@calibration_option
def report(folder: Path, calibration: Path) -> None:
    """Write report.html again from report.json."""
    try:
        found = decode_report((folder / REPORT_JSON).read_bytes())
    except (OSError, msgspec.DecodeError) as error:
        raise FolderError(f"{folder.name} holds no report: {error}") from error
    html = render(found, read_calibration(calibration))
    (folder / REPORT_HTML).write_text(html, encoding="utf-8")


@main.command("compare")
@click.argument("before", type=folder_of_campaign)
@click.argument("after", type=folder_of_campaign)
@click.option("--any-plan", is_flag=True, help="Compare although the plans differ.")
@json_option
def compare_campaigns(before: Path, after: Path, *, any_plan: bool, as_json: bool) -> None:
    """Hold campaign AFTER against campaign BEFORE; exit 1 if the gate does not hold."""
    found = compare(before, after, Bands())
    if as_json:
        click.echo(msgspec.json.encode(found))
    else:
        click.echo(table_of(found))
    if not found.same_plan and not any_plan:
        raise FolderError("the two carried out different plans; --any-plan compares them still")
    sys.exit(0 if found.ok else 1)


def _finish(report: Report, folder: Path, tell: Teller) -> Never:
    tell(
        {
            "type": "result",
            "verdict": report.verdict,
            "reasons": report.reasons,
            "plan_sha256": report.plan_sha256,
            "html": str(folder / REPORT_HTML),
            "json": str(folder / REPORT_JSON),
        }
    )
    sys.exit(EXIT_CODES[report.verdict])


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt


def entry() -> None:
    try:
        main(standalone_mode=False)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except TROUBLE as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        sys.exit(130)


if __name__ == "__main__":
    entry()
