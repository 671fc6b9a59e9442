"""A roster: CSV files that describe people, groups, images, hosts, pools and endpoints.

Pure reading and checking of the files alone; what they mean beside the stored records is
`broker.services.roster_plan`'s business. docs/roster.md describes the columns.
"""

from __future__ import annotations

from broker.domain.roster.files import (
    FILES,
    EndpointRow,
    EntitlementRow,
    FileSpec,
    GroupRow,
    HostRow,
    ImageRow,
    PoolRow,
    UserRow,
)
from broker.domain.roster.problems import Problem, Problems
from broker.domain.roster.reading import Roster, Table, decode_file, read_roster

__all__ = [
    "FILES",
    "EndpointRow",
    "EntitlementRow",
    "FileSpec",
    "GroupRow",
    "HostRow",
    "ImageRow",
    "PoolRow",
    "Problem",
    "Problems",
    "Roster",
    "Table",
    "UserRow",
    "decode_file",
    "read_roster",
]
