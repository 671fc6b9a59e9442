"""The garbage collector of a process that serves many at once.

Python looks for cycles after every 700 new objects that it keeps, and a server with thousands of
requests under way then walks all of them again and again: it took a third to a half of all CPU of
a storm of connects (docs/decisions.md has the figures). What the start left behind is set aside
for good, and looks come less often. Cycles are rare here, so little waits longer to be freed.
"""

from __future__ import annotations

import gc
from typing import Final

YOUNG_MAX: Final = 10_000
"""new objects kept before the youngest are looked at"""
MIDDLE_EVERY: Final = 20
"""looks at the youngest before one at those that survived it"""
OLD_EVERY: Final = 50
"""looks at those before one at all"""


def calm() -> None:
    """Call once, when everything that stays for good has been made."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_MAX, MIDDLE_EVERY, OLD_EVERY)
