"""Rows to records and back. Column tuples stand in the order in which rows are unpacked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Row = Sequence[Any]
Values = dict[str, Any]
