"""What the broker has run at hosts over SSH: these texts and no others. Nothing that a person
wrote is ever a part of one, so a host can allow exactly these (docs/hypervisors.md)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

PRESSURE_FILES: Final = tuple(f"/proc/pressure/{one}" for one in ("cpu", "memory", "io"))
KSM_FILES: Final = tuple(
    f"/sys/kernel/mm/ksm/{one}" for one in ("run", "pages_shared", "pages_sharing")
)


class Command(StrEnum):
    """LOOK: pressure and page sharing, each line after its file's name and a colon. POWEROFF and
    SUDO_POWEROFF: an orderly shut-down, by a user who may, or who may by sudo."""

    LOOK = " ".join(("grep -s .", *PRESSURE_FILES, *KSM_FILES))
    POWEROFF = "systemctl poweroff"
    SUDO_POWEROFF = "sudo -n systemctl poweroff"


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What became of a command. status: None where the host hung up before it told."""

    status: int | None
    text: str
