"""What people who do not run the site are not told: which hosts there are."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from broker.domain.placement import NO_HOST

A_HOST: Final = "a host"
_JOIN: Final = "; "


def without_hosts(text: str, names: Iterable[str]) -> str:
    """The text with each of these hosts' names, where it stands by itself, replaced; what is said
    of several hosts alike is said once."""
    found = sorted((name for name in names if name and name in text), key=len, reverse=True)
    if not found:
        return text
    any_name = "|".join(re.escape(name) for name in found)
    veiled = re.sub(rf"(?<![\w-])(?:{any_name})(?![\w-])", A_HOST, text)
    before, fits, reasons = veiled.partition(NO_HOST)
    return before + fits + _JOIN.join(dict.fromkeys(reasons.split(_JOIN))) if fits else veiled
