"""The newest decisions about one thing, as its page shows them."""

from __future__ import annotations

from typing import Final

from broker.ports import PageQuery
from broker.services.explanations import Explanation
from broker.web.call import Call

SHOWN: Final = 20
"""decisions on one page; the audit trail has the rest"""


async def why_of(call: Call, field: str, thing_id: str) -> tuple[Explanation, ...]:
    """`field` is desktop_id, pool_id or host_id."""
    query = PageQuery(limit=SHOWN)
    return (await call.web.services.explanations.of(field, thing_id, query)).items


async def why_of_session(call: Call, session_id: str) -> tuple[Explanation, ...]:
    """Somebody else's session only for those who may read."""
    query = PageQuery(limit=SHOWN)
    page = await call.web.services.explanations.of_session(call.who, session_id, query)
    return page.items
