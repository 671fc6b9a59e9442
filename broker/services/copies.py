"""Keeps this process's copies of pools, rules and the site fresh: a hint makes them read anew.

A hint that is lost costs the copies' own age, two seconds, and no more.
"""

from __future__ import annotations

from broker.services.kit import Kit
from broker.services.policies import Policies
from broker.services.pools import Pools
from broker.services.site import Site

MISSED = "missed"


class Copies:
    def __init__(self, kit: Kit, pools: Pools, policies: Policies, site: Site) -> None:
        self._kit = kit
        self._by_topic = {"pool": pools.forget, "policy": policies.forget, "site": site.forget}

    async def run(self) -> None:
        """Listen for ever."""
        subscription = self._kit.events.subscribe(*self._by_topic)
        try:
            async for hint in subscription:
                if hint.topic == MISSED:
                    for forget in self._by_topic.values():
                        forget()
                else:
                    self._by_topic[hint.topic]()
        finally:
            subscription.close()
