"""Importing a roster: gather what is stored, plan, and make the whole change or none of it.

The plan is pure: `people`, `machines` and `places` each draw up their kinds of record in one
`Draft`, `plan` puts them together, `importing` reads and writes the store.
"""

from __future__ import annotations

from broker.services.roster.draft import Count, Known
from broker.services.roster.importing import import_roster
from broker.services.roster.plan import RosterPlan, plan_roster

__all__ = ["Count", "Known", "RosterPlan", "import_roster", "plan_roster"]
