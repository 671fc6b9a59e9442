"""All services of one broker process, as the web and the gateways are given them."""

from __future__ import annotations

from dataclasses import dataclass

from broker.services.accounts import Accounts
from broker.services.connect import Connect
from broker.services.delivery import Delivery
from broker.services.directory import Directory
from broker.services.endpoints import Endpoints
from broker.services.engine_work import EngineWork
from broker.services.images import Images
from broker.services.kit import Kit
from broker.services.overview import Overviews
from broker.services.pools import Pools
from broker.services.reconciler import Reconciler
from broker.services.sessions import Sessions
from broker.services.tally import Tally
from broker.services.watch import SessionWatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    kit: Kit
    accounts: Accounts
    connect: Connect
    delivery: Delivery
    directory: Directory
    endpoints: Endpoints
    engine_work: EngineWork
    images: Images
    overviews: Overviews
    pools: Pools
    reconciler: Reconciler
    sessions: Sessions
    tally: Tally
    watch: SessionWatch
