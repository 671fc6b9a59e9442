"""Where a request came from, as the audit trail keeps it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """`source` is the client's IP address as the connection has it."""

    source: str = ""
    request_id: str = ""


NOWHERE = Origin()
"""of what no request asked for"""
