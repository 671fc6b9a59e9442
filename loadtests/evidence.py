"""A campaign's folder: what lies in it, and everything that a report is computed from.

plan.jsonl          who came when; its SHA-256 is the plan's name
sessions.jsonl.gz   one record for each arrival
evidence.json.gz    the rest: samples, request histograms, the broker's records, the probe
phases.hdr.json     HDR histograms of the phases, for other tools and for merging runs
report.json         what was computed from these
report.html         the same for people, in one file
locust.log          what Locust said
"""

from __future__ import annotations

import gzip
from pathlib import Path

import msgspec

from loadtests.cast import Scale
from loadtests.collect import BrokerSession
from loadtests.plan import Recipe
from loadtests.probe import Probe
from loadtests.records import Seen, read_sessions, write_sessions
from loadtests.settings import Settings
from loadtests.watch import MachineSecond

SESSIONS_FILE = "sessions.jsonl.gz"
EVIDENCE_FILE = "evidence.json.gz"
HISTOGRAMS_FILE = "phases.hdr.json"
REPORT_JSON = "report.json"
REPORT_HTML = "report.html"
LOCUST_LOG = "locust.log"


class FolderError(Exception):
    """The folder does not hold a campaign; the text says what is missing."""


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a report is computed from. `broker_sessions` None: could not be read."""

    recipe: Recipe
    plan_sha256: str
    settings: Settings
    scale: Scale
    probe: Probe
    seen: Seen
    machine: tuple[MachineSecond, ...]
    broker_sessions: tuple[BrokerSession, ...] | None
    command: str


def write_evidence(folder: Path, evidence: Evidence) -> None:
    """Writes SESSIONS_FILE and EVIDENCE_FILE; the same evidence gives the same bytes."""
    write_sessions(folder / SESSIONS_FILE, evidence.seen.sessions)
    rest = msgspec.structs.replace(
        evidence, seen=msgspec.structs.replace(evidence.seen, sessions=())
    )
    body = msgspec.json.encode(rest)
    (folder / EVIDENCE_FILE).write_bytes(gzip.compress(body, 6, mtime=0))


def read_evidence(folder: Path) -> Evidence:
    """What `write_evidence` wrote.

    Raises:
        FolderError: a file is missing or not what it should be.
    """
    try:
        body = gzip.decompress((folder / EVIDENCE_FILE).read_bytes())
        rest = msgspec.json.decode(body, type=Evidence)
        sessions = read_sessions(folder / SESSIONS_FILE)
    except (OSError, EOFError, msgspec.DecodeError) as error:
        raise FolderError(f"{folder.name} holds no whole campaign: {error}") from error
    return msgspec.structs.replace(rest, seen=msgspec.structs.replace(rest.seen, sessions=sessions))
