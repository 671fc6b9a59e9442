"""A site in the middle of its day, for backups."""

from __future__ import annotations

from broker.domain.calendar import Window
from broker.domain.lifecycle import DesktopEvent, JobEvent, SessionEvent
from broker.domain.policy.rules import Effect, EntitlementRule, Quota, QuotaScope
from broker.ports import Store
from tests.support.builders import NOW
from tests.support.stores import (
    IDV,
    claimed_session,
    fill,
    make_campaign,
    make_job,
    make_request,
    new_desktop,
    ready_desktops,
)
from tests.support.trail import make_entry, seal_all, sealer

LATER = NOW + 86_400_000
RULE = EntitlementRule(
    id="rul_1", name="nights", effect=Effect.DENY, group_ids=("grp_1",), windows=(Window(),)
)
QUOTA = Quota(id="quo_1", name="two", scope=QuotaScope.GROUP, sessions_max=2, group_id="grp_1")
ENTRY = make_entry(9000, id="aud_restored", at=LATER, actor="broker", action="site.restore")


async def live_through(store: Store) -> None:
    """A site in the middle of its day: something in every state that a restore changes."""
    await fill(store)
    await ready_desktops(store, range(1, 5))
    await ready_desktops(store, [1, 2], IDV)
    await store.desktops.add([new_desktop(5)], [make_job(1, desktop_id="dsk_library_5")])
    await store.desktops.add(
        [new_desktop(6), new_desktop(7)],
        [make_job(2, desktop_id="dsk_library_6"), make_job(3, desktop_id="dsk_library_7")],
    )
    taken = await store.jobs.take(NOW + 60_000, NOW + 60_000, 2)
    await store.jobs.advance(taken[0].id, JobEvent.SUCCEEDED, NOW)
    await store.desktops.advance("dsk_library_4", DesktopEvent.DELETE_ASKED, NOW, deadline_at=NOW)
    session = await claimed_session(store, make_request(1, idempotency_key="k"))
    await store.sessions.advance(session.id, SessionEvent.REPORTED_LIVE, NOW, why="")
    await claimed_session(store, make_request(2))
    over = await claimed_session(store, make_request(3))
    await store.sessions.advance(over.id, SessionEvent.FAILED, NOW, why="it broke")
    await claimed_session(store, make_request(1, IDV, endpoint_id="ept_1"))
    await claimed_session(store, make_request(4, IDV, endpoint_id="ept_4"))
    await store.directory.set_passwords({"usr_1": "argon2…"})
    await store.credentials.installation_secret("installation", bytes(range(256)))
    await store.directory.save_rule(RULE, new=True)
    await store.directory.save_quota(QUOTA, new=True)
    await store.campaigns.save(make_campaign())
    await store.documents.save("site", {"message": "hello", "n": [1, 2.5]}, revision=0)
    lease = await sealer(store)
    await store.audit.append([make_entry(n, details={"n": n}, user_id="usr_1") for n in (1, 2, 3)])
    await seal_all(store, lease)
    await store.audit.append([make_entry(4)])
