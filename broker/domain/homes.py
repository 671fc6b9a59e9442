"""Where a host's machines live, as far as its profile says: what another profile would leave
behind."""

from __future__ import annotations

from collections.abc import Mapping


def left_behind(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[str, ...]:
    """What was said of where the machines live and is not said any more, sorted; what is new beside
    it leaves nothing behind. None: the machines are found again."""
    return tuple(sorted(word for word, said in before.items() if after.get(word) != said))
