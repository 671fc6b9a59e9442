"""Notes in a session that have a reason of their own; any other leaves its reason as it was."""

from __future__ import annotations

from typing import Final

KEPT_AT_FIRST: Final = "the person at the first place keeps it"
DESKTOP_RESTS: Final = "away past the grace; its desktop is suspended"
TELLING: Final = frozenset({KEPT_AT_FIRST, DESKTOP_RESTS})
