"""A session's life after the claim, by subject: what people ask, what endpoints say, how it ends.

Every change goes through `store.sessions.advance`, which holds it against the lifecycle table
and takes the desktop along in the same transaction.
"""

from __future__ import annotations

from broker.services.delivery import Delivery
from broker.services.guest_reach import GuestReach
from broker.services.images import Images
from broker.services.kit import Kit
from broker.services.parking import Parking
from broker.services.pools import Pools
from broker.services.queues import Queues
from broker.services.sessions.activity import Activity
from broker.services.sessions.away import Away
from broker.services.sessions.core import Core
from broker.services.sessions.ending import Ending, release_of
from broker.services.sessions.opening import Grant, Opening
from broker.services.sessions.people import People
from broker.services.sessions.reports import Reports
from broker.services.sessions.roaming import Roaming
from broker.services.sessions.timing import Timing
from broker.services.tally import Tally
from broker.services.watch import SessionWatch


class Sessions:
    """The parts put together. What it offers is documented where it is done."""

    def __init__(
        self,
        kit: Kit,
        pools: Pools,
        delivery: Delivery,
        parking: Parking,
        queues: Queues,
        images: Images,
        tally: Tally,
        watch: SessionWatch,
        reach: GuestReach,
    ) -> None:
        core = Core(kit, pools, delivery, queues, tally)
        self.activity = Activity(kit)
        ending = Ending(core, reach)
        away = Away(core, ending, parking)
        timing = Timing(core, ending, away)
        opening = Opening(core, images, parking)
        reports = Reports(core, ending, away, self.activity)
        people = People(core, ending, away, self.activity, watch)
        roaming = Roaming(core, people)

        self.get, self.wait, self.own = people.get, people.wait, people.own
        self.here, self.at_endpoint = people.here, people.at_endpoint
        self.log_off, self.disconnect = people.log_off, people.disconnect
        self.message, self.extend = people.message, people.extend
        self.tell = people.tell
        self.abandon = people.abandon
        self.consent, self.answered = roaming.consent, roaming.answered
        self.redeem, self.redeem_display = opening.redeem, opening.redeem_display
        self.check_runs, self.grant = opening.check_runs, opening.grant
        self.phases, self.traffic = reports.phases, reports.traffic
        self.live, self.ended = reports.live, reports.ended
        self.shown = reports.shown
        self.failed, self.could_not = reports.failed, reports.could_not
        self.endpoint_back, self.carried = reports.endpoint_back, reports.carried
        self.renewed = reports.renewed
        self.lost = away.lost
        self.stranded, self.vacate = away.stranded, away.vacate
        self.end, self.finish = ending.end, ending.finish
        self.logged_off = ending.logged_off
        self.desktop_lost = ending.desktop_lost
        self.expire = timing.expire


__all__ = ["Grant", "Sessions", "release_of"]
