"""The HTTP API, /api/v1: one file for each resource."""

from __future__ import annotations

from broker.web.api.audit import AuditApi
from broker.web.api.auth import AuthApi
from broker.web.api.breakers import BreakersApi
from broker.web.api.campaigns import CampaignsApi
from broker.web.api.desktops import DesktopsApi
from broker.web.api.endpoints import EndpointsApi
from broker.web.api.events import EventsApi
from broker.web.api.host_checks import HostChecksApi
from broker.web.api.images import ImagesApi
from broker.web.api.imports import ImportsApi
from broker.web.api.machines import MachinesApi
from broker.web.api.overview import OverviewApi
from broker.web.api.policies import PoliciesApi
from broker.web.api.pools import PoolsApi
from broker.web.api.preview import PreviewApi
from broker.web.api.session_requests import SessionRequests
from broker.web.api.sessions import SessionsApi
from broker.web.api.shadows import ShadowsApi
from broker.web.api.site import SiteApi
from broker.web.api.snapshots import SnapshotsApi
from broker.web.api.users import UsersApi
from broker.web.api.viewers import ViewersApi
from broker.web.api.why import WhyApi
from broker.web.context import Web
from broker.web.routes import Route


def api_routes(web_: Web) -> tuple[Route, ...]:
    """Every route of the API but the display's socket."""
    parts = (
        AuthApi(web_),
        UsersApi(web_),
        PoolsApi(web_),
        MachinesApi(web_),
        HostChecksApi(web_),
        ImagesApi(web_),
        DesktopsApi(web_),
        SnapshotsApi(web_),
        SessionsApi(web_),
        SessionRequests(web_),
        ShadowsApi(web_),
        ViewersApi(web_),
        EndpointsApi(web_),
        ImportsApi(web_),
        CampaignsApi(web_),
        OverviewApi(web_),
        EventsApi(web_),
        WhyApi(web_),
        BreakersApi(web_),
        SiteApi(web_),
        PreviewApi(web_),
        PoliciesApi(web_),
        AuditApi(web_),
    )
    return tuple(route for part in parts for route in part.routes())
