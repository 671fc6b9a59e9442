"""The web console: pages rendered on the server, live through events.

Pages only read. What people change goes through the API, called by the pages' own scripts; the
three forms that come before a sign-in (sign_in.py) are the exception.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from broker.domain.errors import TriviumError
from broker.web.call import Call
from broker.web.console.campaigns import CampaignPages
from broker.web.console.desktop_page import DesktopPage
from broker.web.console.host_page import HostPage
from broker.web.console.hosts import HostPages
from broker.web.console.images import ImagePages
from broker.web.console.machines import MachinePages
from broker.web.console.me import MyPages
from broker.web.console.overview import OverviewPages
from broker.web.console.pools import PoolPages
from broker.web.console.preview import PreviewPage
from broker.web.console.render import Pages
from broker.web.console.rules import RulePages
from broker.web.console.sessions import SessionPages
from broker.web.console.shadows import ShadowPage
from broker.web.console.sign_in import SignInPages
from broker.web.console.site import SitePages
from broker.web.console.static_files import StaticFiles, static_route
from broker.web.console.users import UserPages
from broker.web.routes import Route

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Console:
    """What the web server is given: the console's routes, and its page for errors."""

    routes: tuple[Route, ...]
    error_page: Callable[[Call, TriviumError, int], Awaitable[web.StreamResponse]]


def build_console() -> Console:
    """Read the templates and the static files, once.

    Without its libraries the console is read-only and does not move; that is logged.
    """
    files = StaticFiles()
    if files.missing():
        _log.warning("the console lacks %s: run `make vendor`", ", ".join(files.missing()))
    pages = Pages(files)
    sign_in = SignInPages(pages)
    families = (
        sign_in,
        OverviewPages(pages),
        SessionPages(pages),
        ShadowPage(pages),
        MachinePages(pages),
        DesktopPage(pages),
        HostPages(pages),
        HostPage(pages),
        ImagePages(pages),
        PoolPages(pages),
        UserPages(pages),
        PreviewPage(pages),
        RulePages(pages),
        SitePages(pages),
        CampaignPages(pages),
        MyPages(pages),
    )
    routes = tuple(route for family in families for route in family.routes())
    return Console(routes=(*routes, static_route(files)), error_page=sign_in.error_page)


__all__ = ["Console", "build_console"]
