"""Carries a campaign out: probe, plan, Locust in its own processes, the broker's records, report.

Locust runs in a child process, for importing it patches whoever does. Ctrl-C or SIGTERM here
ends the child, which logs off whoever is under way; no report is written then.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import msgspec

from loadtests.analyse import analyse, phase_histograms
from loadtests.calibration import Calibration
from loadtests.cast import Cast, Scale
from loadtests.collect import Broker, BrokerError, BrokerSession, settled_sessions
from loadtests.evidence import (
    HISTOGRAMS_FILE,
    LOCUST_LOG,
    REPORT_HTML,
    REPORT_JSON,
    Evidence,
    write_evidence,
)
from loadtests.limits import STOP_S, WORKERS_LOOK_S, WORKERS_S
from loadtests.plan import Plan, encode_plan, sha256_of
from loadtests.probe import Probe, probe
from loadtests.records import Seen, read_seen
from loadtests.report import render
from loadtests.result import Report, encode_report
from loadtests.settings import (
    CAMPAIGN_VARIABLE,
    CAST_VARIABLE,
    PLAN_FILE,
    RAW_FOLDER,
    Settings,
    write_settings,
)
from loadtests.verdict import Criteria
from loadtests.watch import MachineSecond, Watcher

LOCUSTFILE = Path(__file__).parent / "locustfile.py"
CLOCK_MARGIN_MS = 1000.0
"""the broker's clock may be this far behind ours when its sessions are picked out"""

Told = Callable[[Mapping[str, object]], None]


class RunError(Exception):
    """The campaign could not be carried out; the text says why."""


class Workers(msgspec.Struct, frozen=True, kw_only=True):
    """How Locust is spread. `processes`: here. `remote`: workers that connect from elsewhere to
    `bind`:`port` and see the same folder; 0 for none."""

    processes: int = 1
    remote: int = 0
    bind: str = "127.0.0.1"
    port: int = 0


class Campaign(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that one run needs. `command` is printed in the report for reproduction."""

    cast: Cast
    cast_file: Path
    plan: Plan
    settings: Settings
    folder: Path
    workers: Workers
    calibration: Calibration
    criteria: Criteria
    token: str | None
    command: str


def run_campaign(campaign: Campaign, tell: Told) -> Report:
    """Runs it and leaves its folder as loadtests.evidence describes. `tell` hears of each stage
    and of progress, as plain mappings.

    Raises:
        RunError: Locust did not start or did not carry the plan out.
    """
    if campaign.workers.remote and not campaign.workers.port:
        raise RunError("workers from elsewhere need a port that they know: give --port")
    folder = campaign.folder
    raw = folder / RAW_FOLDER
    shutil.rmtree(raw, ignore_errors=True)
    raw.mkdir(parents=True)
    body = encode_plan(campaign.plan)
    (folder / PLAN_FILE).write_bytes(body)
    write_settings(folder, campaign.settings)
    tell({"type": "stage", "stage": "probe"})
    machine = probe(campaign.settings.url)
    tell({"type": "stage", "stage": "run", "plan_sha256": sha256_of(body)})
    broker = Broker(campaign.settings.url, campaign.token)
    seconds = _run_locust(campaign, broker, tell)
    seen = read_seen(raw)
    if not seen.sessions:
        raise RunError(f"no arrival was recorded; see {LOCUST_LOG}")
    tell({"type": "stage", "stage": "settle"})
    sessions = _broker_sessions(broker, seen, campaign.settings.settle_s, tell)
    tell({"type": "stage", "stage": "report"})
    return _conclude(campaign, sha256_of(body), machine, seen, seconds, sessions)


def publish_latest(folder: Path) -> Path:
    """Points `latest` beside `folder` at it, at once and whole; gives its path."""
    latest = folder.parent / "latest"
    part = folder.parent / f".latest.{os.getpid()}"
    part.unlink(missing_ok=True)
    part.symlink_to(folder.name, target_is_directory=True)
    try:
        part.replace(latest)
    except OSError as error:
        part.unlink()
        raise RunError("`latest` is not a link and was left alone") from error
    return latest


def worker_command(host: str, port: int) -> list[str]:
    """The command of a Locust worker on another machine."""
    return [*_locust(), "--worker", "--master-host", host, "--master-port", str(port)]


def worker_environment(folder: Path, cast_file: Path) -> dict[str, str]:
    """What Locust's processes find in their environment."""
    root = str(Path(__file__).parent.parent)
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("LOCUST_")},
        "PYTHONPATH": os.pathsep.join(paths),
        CAMPAIGN_VARIABLE: str(folder.resolve()),
        CAST_VARIABLE: str(cast_file.resolve()),
    }


def _locust() -> list[str]:
    return [
        *(sys.executable, "-m", "locust", "-f", str(LOCUSTFILE)),
        *("--headless", "--only-summary", "--loglevel", "WARNING", "--exit-code-on-error", "0"),
    ]


def _command(campaign: Campaign) -> list[str]:
    workers = campaign.workers
    command = [*_locust(), "--host", campaign.settings.url]
    if not workers.remote and workers.processes == 1:
        return command
    port = str(workers.port or _free_port(workers.bind))
    command += ["--expect-workers-max-wait", str(WORKERS_S)]
    command += ["--master-bind-host", workers.bind, "--master-bind-port", port]
    if workers.remote:
        return [*command, "--master", "--expect-workers", str(workers.remote)]
    return [*command, "--processes", str(workers.processes), "--master-port", port]


def _free_port(address: str) -> int:
    with socket.socket() as probe_socket:
        probe_socket.bind((address, 0))
        return int(probe_socket.getsockname()[1])


def _run_locust(campaign: Campaign, broker: Broker, tell: Told) -> list[MachineSecond]:
    with (
        (campaign.folder / LOCUST_LOG).open("wb") as log,
        _locust_process(campaign, log) as process,
        Watcher(broker, process.pid) as watcher,
    ):
        if process.stdout is None:
            raise RunError("Locust has no output")
        for line in process.stdout:
            progress = _progress(line)
            if progress is None:
                log.write(line)
            else:
                tell({"type": "progress", **progress})
        code = process.wait()
    if code != 0:
        raise RunError(f"Locust ended with code {code}; see {LOCUST_LOG}")
    return watcher.seconds


@contextmanager
def _locust_process(campaign: Campaign, log: BinaryIO) -> Iterator[subprocess.Popen[bytes]]:
    """Locust in a session of its own, so that Ctrl-C comes to it only through us."""
    process = subprocess.Popen(  # noqa: S603 - our own interpreter and file
        _command(campaign),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=log,
        cwd=campaign.folder,
        env=worker_environment(campaign.folder, campaign.cast_file),
        start_new_session=True,
    )
    reaper = threading.Thread(target=_reap, args=(process,), name="reaper", daemon=True)
    reaper.start()
    try:
        yield process
    finally:
        if process.poll() is None:
            # SIGINT, for while a shape runs Locust leaves SIGTERM to the system, which just kills
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=2 * STOP_S)
            process.kill()
        reaper.join()
        if process.stdout is not None:
            process.stdout.close()


def _reap(process: subprocess.Popen[bytes]) -> None:
    """A master that gave up, or was interrupted, leaves the workers that it forked behind, and
    these its output open. They log their people off, for which they have 2 * STOP_S; then they are
    gone as it is."""
    process.wait()
    until_s = time.monotonic() + 2 * STOP_S
    with suppress(ProcessLookupError):
        while time.monotonic() < until_s:
            os.killpg(process.pid, 0)
            time.sleep(WORKERS_LOOK_S)
        os.killpg(process.pid, signal.SIGKILL)


def _progress(line: bytes) -> dict[str, int | float] | None:
    if not line.startswith(b'{"progress"'):
        return None
    try:
        return msgspec.json.decode(line, type=dict[str, dict[str, int | float]])["progress"]
    except msgspec.DecodeError:
        return None


def _broker_sessions(
    broker: Broker, seen: Seen, settle_s: float, tell: Told
) -> tuple[BrokerSession, ...] | None:
    ids = {record.session_id for record in seen.sessions if record.session_id is not None}
    usernames = {record.username for record in seen.sessions}
    since_ms = min((end.begun_at_ms for end in seen.ends), default=time.time() * 1000)
    try:
        return settled_sessions(broker, ids, usernames, since_ms - CLOCK_MARGIN_MS, settle_s)
    except BrokerError as error:
        tell({"type": "warning", "text": f"the broker's records are missing: {error}"})
        return None


def _conclude(
    campaign: Campaign,
    sha256: str,
    machine: Probe,
    seen: Seen,
    seconds: list[MachineSecond],
    sessions: tuple[BrokerSession, ...] | None,
) -> Report:
    evidence = Evidence(
        recipe=campaign.plan.recipe,
        plan_sha256=sha256,
        settings=campaign.settings,
        scale=Scale(speed=campaign.cast.scale.speed, bytes_scale=campaign.cast.scale.bytes_scale),
        probe=machine,
        seen=seen,
        machine=tuple(seconds),
        broker_sessions=sessions,
        command=campaign.command,
    )
    write_evidence(campaign.folder, evidence)
    shutil.rmtree(campaign.folder / RAW_FOLDER)
    return write_report(campaign.folder, evidence, campaign.calibration, campaign.criteria)


def write_report(
    folder: Path, evidence: Evidence, calibration: Calibration, criteria: Criteria
) -> Report:
    """Computes the report of `evidence` and writes its files into `folder`."""
    report = analyse(evidence, calibration, criteria)
    histograms = phase_histograms(evidence.seen.sessions)
    (folder / HISTOGRAMS_FILE).write_bytes(msgspec.json.encode(histograms) + b"\n")
    (folder / REPORT_JSON).write_bytes(encode_report(report))
    (folder / REPORT_HTML).write_text(render(report, calibration), encoding="utf-8")
    return report
