"""All services of one broker process, as the web and the gateways are given them."""

from __future__ import annotations

from dataclasses import dataclass

from broker.services.accounts import Accounts
from broker.services.audit import Audit
from broker.services.breakers import Breakers
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
from broker.services.guest_care import GuestCare
from broker.services.guests import Guests
from broker.services.host_checks import HostChecks
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
from broker.services.policies import Policies
from broker.services.pools import Pools
from broker.services.preview import Previews
from broker.services.queues import Queues
from broker.services.reconciler import Reconciler
from broker.services.rulebook import Rulebook
from broker.services.sessions import Sessions
from broker.services.shadows import Shadows
from broker.services.shared_work import SharedWork
from broker.services.showing import Showing
from broker.services.site import Site
from broker.services.snapshots import Snapshots
from broker.services.tally import Tally
from broker.services.viewers import Viewers
from broker.services.watch import SessionWatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    kit: Kit
    accounts: Accounts
    audit: Audit
    breakers: Breakers
    connect: Connect
    copies: Copies
    delivery: Delivery
    desktop_care: DesktopCare
    desktop_moves: DesktopMoves
    desktop_restarts: DesktopRestarts
    directory: Directory
    discretion: Discretion
    drifts: Drifts
    endpoints: Endpoints
    engine_work: EngineWork
    explanations: Explanations
    guest_care: GuestCare
    guests: Guests
    host_checks: HostChecks
    host_power: HostPower
    host_profiles: HostProfiles
    host_retirement: HostRetirement
    host_silence: HostSilence
    image_removal: ImageRemoval
    image_uploads: ImageUploads
    images: Images
    measures: Measures
    overviews: Overviews
    policies: Policies
    pools: Pools
    previews: Previews
    queues: Queues
    reconciler: Reconciler
    rulebook: Rulebook
    sessions: Sessions
    shadows: Shadows
    shared: SharedWork
    showing: Showing
    site: Site
    snapshots: Snapshots
    tally: Tally
    viewers: Viewers
    watch: SessionWatch
