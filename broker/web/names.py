"""Names beside ids, without a read for each row.

Names of people, desktops, endpoints and groups never change under one id, so what was read once
stays true; the memory is bounded and forgets the oldest.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Final

from broker.limits import NAMES_REMEMBERED, PAGE_LIMIT_MAX
from broker.ports import DirectoryStore

GONE: Final = "?"
"""shown for an id that the store does not know (any more)"""


class Names:
    def __init__(self, directory: DirectoryStore) -> None:
        self._directory = directory
        self._known: OrderedDict[str, str] = OrderedDict()

    def note(self, thing_id: str, name: str) -> None:
        """Remember a name that is at hand anyway."""
        if thing_id in self._known:
            return
        self._known[thing_id] = name
        if len(self._known) > NAMES_REMEMBERED:
            self._known.popitem(last=False)

    def known(self, thing_id: str) -> str:
        """The name, after `learn`; GONE if there is none."""
        return self._known.get(thing_id, GONE)

    async def learn(self, **ids: Iterable[str | None]) -> Mapping[str, str]:
        """id -> name for `users`, `groups`, `desktops` and `endpoints`; unknown ids are absent.

        One read for each kind of which some name is not known yet.
        """
        found: dict[str, str] = {}
        for kind, wanted in ids.items():
            missing: list[str] = []
            for one in dict.fromkeys(wanted):
                if one is None:
                    continue
                name = self._known.get(one)
                if name is None:
                    missing.append(one)
                else:
                    found[one] = name
            for start in range(0, len(missing), PAGE_LIMIT_MAX):
                some = missing[start : start + PAGE_LIMIT_MAX]
                for one, name in (await self._directory.names_of(kind, some)).items():
                    found[one] = name
                    self.note(one, name)
        return found
