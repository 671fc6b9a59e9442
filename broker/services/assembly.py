"""How the services are put together: the one place, for the app, the simulation and the tests."""

from __future__ import annotations

from collections.abc import Callable

from broker.ports import AnchorKeeper, EndpointLink, Engine, ImageStore, PasswordHasher, Signatures
from broker.services.accounts import Accounts
from broker.services.audit import Audit
from broker.services.breakers import Breakers
from broker.services.bundle import Services
from broker.services.connect import Connect
from broker.services.copies import Copies
from broker.services.delivery import Delivery
from broker.services.desktop_care import DesktopCare
from broker.services.desktop_moves import DesktopMoves
from broker.services.desktop_restarts import DesktopRestarts
from broker.services.directory import Directory
from broker.services.discretion import Discretion
from broker.services.drifts import Drifts
from broker.services.endpoints import Endpoints
from broker.services.engine_work import EngineWork
from broker.services.explanations import Explanations
from broker.services.guest_book import GuestBook
from broker.services.guest_care import GuestCare
from broker.services.guest_news import GuestNewsBook
from broker.services.guest_reach import GuestReach
from broker.services.guests import Guests
from broker.services.host_checks import HostChecks
from broker.services.host_loss import HostLoss
from broker.services.host_power import HostPower
from broker.services.host_profiles import HostProfiles
from broker.services.host_retirement import HostRetirement
from broker.services.host_silence import HostSilence
from broker.services.image_removal import ImageRemoval
from broker.services.image_uploads import ImageUploads
from broker.services.images import Images
from broker.services.kit import Kit
from broker.services.measures import Measures
from broker.services.overview import Overviews
from broker.services.parking import Parking
from broker.services.policies import Policies
from broker.services.pool_shares import PoolShares
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
from broker.services.shadows import Shadows
from broker.services.shared_work import SharedWork
from broker.services.showing import Showing
from broker.services.site import Site
from broker.services.snapshots import Snapshots
from broker.services.strays import Strays
from broker.services.tally import Tally
from broker.services.viewers import Viewers
from broker.services.watch import SessionWatch


def assemble(
    kit: Kit,
    *,
    link: EndpointLink,
    engines: Callable[[str], Engine],
    hasher: PasswordHasher,
    signatures: Signatures,
    images: Images,
    anchors: AnchorKeeper | None = None,
    image_store: ImageStore | None = None,
) -> Services:
    """The services of one broker process. `engines`: an engine by its short name. `anchors`: where
    the audit trail's newest seal is kept; `image_store`: where uploaded images are; None: none."""
    pools, watch, tally = Pools(kit), SessionWatch(kit), Tally()
    shared, site, breakers = SharedWork(kit), Site(kit, pools), Breakers(kit, pools)
    policies, parking = Policies(kit, site), Parking(kit, engines)
    queues, discretion = Queues(kit, pools, tally), Discretion(kit)
    accounts, delivery = Accounts(kit, hasher), Delivery(kit, pools, link, parking)
    connect = Connect(kit, pools, policies, delivery, parking, queues, tally)
    reach, guest_news, guest_book = GuestReach(kit, engines), GuestNewsBook(kit), GuestBook(kit)
    sessions = Sessions(kit, pools, delivery, parking, queues, images, tally, watch, reach)
    sessions.activity.told = guest_news.told
    profiles, showing = HostProfiles(kit, engines), Showing(kit, shared, sessions)
    directory = Directory(kit, pools, accounts, profiles)
    endpoints = Endpoints(kit, signatures, sessions, delivery, tally)
    works = EngineWork(kit, pools, engines, sessions, tally)
    works.on_outcome, power = breakers.outcome, HostPower(kit, works, engines, site)
    retirement = HostRetirement(kit, shared, pools, site, works)
    looking = Looking(kit, pools, site, breakers, engines)
    reconciler = _reconciler(
        kit, looking=looking, shared=shared, pools=pools, breakers=breakers,
        works=works, connect=connect, sessions=sessions, delivery=delivery, endpoints=endpoints,
        power=power, retirement=retirement, tally=tally, showing=showing,
        drifts=(drifts := Drifts(kit, shared, pools, engines)),
        removal=(removal := ImageRemoval(kit, shared, pools, image_store)),
        pool_shares=PoolShares(kit, pools, works, engines),
        silences=(silences := HostSilence(kit, shared, pools, site, sessions, engines)),
    )  # fmt: skip
    return Services(
        kit=kit, accounts=accounts,
        audit=Audit(kit, shared, anchors), breakers=breakers, connect=connect,
        copies=Copies(kit, pools, policies, site),
        delivery=delivery,
        desktop_care=DesktopCare(kit, pools, directory, works, delivery),
        desktop_moves=DesktopMoves(kit, looking, Running(kit, works), reconciler.turn),
        desktop_restarts=DesktopRestarts(kit, works, sessions, silences),
        directory=directory, discretion=discretion, drifts=drifts, endpoints=endpoints,
        engine_work=works,
        explanations=Explanations(kit, discretion),
        guest_care=GuestCare(kit, pools, reach, sessions, guest_news, guest_book),
        guests=Guests(kit, sessions, reach, guest_book, guest_news),
        host_checks=HostChecks(kit, engines),
        host_power=power, host_profiles=profiles, host_retirement=retirement,
        host_silence=silences, image_removal=removal,
        image_uploads=ImageUploads(kit, pools, image_store),
        images=images,
        measures=Measures(kit),
        overviews=Overviews(kit, tally),
        policies=policies, pools=pools,
        previews=Previews(kit, policies, pools, queues),
        queues=queues, reconciler=reconciler,
        rulebook=Rulebook(kit, policies, directory, pools),
        sessions=sessions,
        shadows=Shadows(kit, sessions, pools, showing),
        shared=shared, showing=showing, site=site,
        snapshots=Snapshots(kit, pools, works, engines),
        tally=tally, watch=watch,
        viewers=Viewers(kit, sessions, engines, discretion),
    )  # fmt: skip


def _reconciler(  # noqa: PLR0913 - it drives that many services
    kit: Kit,
    *,
    looking: Looking,
    shared: SharedWork,
    pools: Pools,
    breakers: Breakers,
    works: EngineWork,
    connect: Connect,
    sessions: Sessions,
    delivery: Delivery,
    endpoints: Endpoints,
    power: HostPower,
    retirement: HostRetirement,
    tally: Tally,
    drifts: Drifts,
    removal: ImageRemoval,
    pool_shares: PoolShares,
    showing: Showing,
    silences: HostSilence,
) -> Reconciler:
    acting = Acting(
        shared=shared,
        works=works,
        connect=connect,
        sessions=sessions,
        machines=Machines(kit, works, delivery, breakers, tally),
        running=Running(kit, works),
        power=power,
    )
    return Reconciler(
        kit,
        shared=shared,
        works=works,
        looking=looking,
        acting=acting,
        chores=Chores(
            kit,
            shared,
            sessions,
            delivery,
            endpoints,
            HostLoss(kit, shared, pools, works, sessions),
            silences,
            retirement,
            pool_shares,
            showing,
        ),
        strays=Strays(kit, shared, works),
        drifts=drifts,
        removal=removal,
    )
