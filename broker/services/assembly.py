"""How the services are put together: the one place, for the app, the simulation and the tests."""

from __future__ import annotations

from collections.abc import Callable

from broker.ports import EndpointLink, Engine, PasswordHasher, Signatures
from broker.services.accounts import Accounts
from broker.services.audit import Audit
from broker.services.breakers import Breakers
from broker.services.bundle import Services
from broker.services.connect import Connect
from broker.services.copies import Copies
from broker.services.delivery import Delivery
from broker.services.directory import Directory
from broker.services.endpoints import Endpoints
from broker.services.engine_work import EngineWork
from broker.services.explanations import Explanations
from broker.services.host_power import HostPower
from broker.services.images import Images
from broker.services.kit import Kit
from broker.services.overview import Overviews
from broker.services.parking import Parking
from broker.services.policies import Policies
from broker.services.pools import Pools
from broker.services.preview import Previews
from broker.services.queues import Queues
from broker.services.reconciler import Reconciler
from broker.services.reconciler.acting import Acting
from broker.services.reconciler.chores import Chores
from broker.services.reconciler.looking import Looking
from broker.services.reconciler.machines import Machines
from broker.services.reconciler.running import Running
from broker.services.rulebook import Rulebook
from broker.services.sessions import Sessions
from broker.services.shared_work import SharedWork
from broker.services.site import Site
from broker.services.strays import Strays
from broker.services.tally import Tally
from broker.services.watch import SessionWatch


def assemble(
    kit: Kit,
    *,
    link: EndpointLink,
    engines: Callable[[str], Engine],
    hasher: PasswordHasher,
    signatures: Signatures,
    images: Images,
) -> Services:
    """The services of one broker process. `engines`: an engine by its short name."""
    pools, watch, tally = Pools(kit), SessionWatch(kit), Tally()
    shared, site, breakers = SharedWork(kit), Site(kit, pools), Breakers(kit, pools)
    policies = Policies(kit, site)
    parking, queues = Parking(kit, engines), Queues(kit, pools, tally)
    delivery = Delivery(kit, pools, link, parking)
    accounts = Accounts(kit, hasher)
    directory = Directory(kit, pools, accounts)
    connect = Connect(kit, pools, policies, delivery, parking, queues, tally)
    sessions = Sessions(kit, pools, delivery, parking, queues, images, tally, watch)
    endpoints = Endpoints(kit, signatures, sessions, delivery, tally)
    works = EngineWork(kit, pools, engines, sessions, tally)
    works.on_outcome = breakers.outcome
    power = HostPower(kit, works)
    reconciler = Reconciler(
        kit,
        shared=shared,
        works=works,
        looking=Looking(kit, pools, site, breakers, engines),
        acting=Acting(
            shared=shared,
            works=works,
            connect=connect,
            sessions=sessions,
            machines=Machines(kit, works, delivery, breakers, tally),
            running=Running(kit, works),
            power=power,
        ),
        chores=Chores(kit, shared, sessions, delivery, endpoints),
        strays=Strays(kit, shared, works),
    )
    return Services(
        kit=kit,
        accounts=accounts,
        audit=Audit(kit, shared),
        breakers=breakers,
        connect=connect,
        copies=Copies(kit, pools, policies, site),
        delivery=delivery,
        directory=directory,
        endpoints=endpoints,
        engine_work=works,
        explanations=Explanations(kit),
        host_power=power,
        images=images,
        overviews=Overviews(kit, tally),
        policies=policies,
        pools=pools,
        previews=Previews(kit, policies, pools, queues),
        queues=queues,
        reconciler=reconciler,
        rulebook=Rulebook(kit, policies, directory, pools),
        sessions=sessions,
        shared=shared,
        site=site,
        tally=tally,
        watch=watch,
    )
