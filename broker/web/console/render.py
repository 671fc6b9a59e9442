"""Templates to answers: the one environment, and what every page is given.

Everything is escaped by default, an unknown name in a template is an error, and no template is
ever made from data.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

from aiohttp import web
from jinja2 import Environment, FileSystemLoader, StrictUndefined

import broker
from broker.domain.model import Identity
from broker.domain.roles import Permission, allows
from broker.web.call import REQUEST_ID, Call
from broker.web.console.figures import FILTERS
from broker.web.console.static_files import StaticFiles
from broker.web.console.words import arch_title, meaning, tone
from broker.web.routes import Surface

NAVIGATION: Final = (
    ("Now", (("/overview", "Overview"), ("/sessions", "Sessions"), ("/desktops", "Desktops"))),
    (
        "Set up",
        (
            ("/pools", "Pools"),
            ("/endpoints", "Endpoints"),
            ("/hosts", "Hosts"),
            ("/images", "Images"),
            ("/users", "Users"),
            ("/rules", "Rules"),
            ("/site", "Site"),
        ),
    ),
    ("Look into", (("/campaigns", "Campaigns"), ("/jobs", "Jobs"), ("/audit", "Audit"))),
    ("Mine", (("/me", "My desktops"),)),
)
"""title -> (address, words) of the pages that those who may read see"""
NEEDS: Final = {"/audit": "read_audit"}
"""address -> what one must be allowed to see it, beyond reading"""
_HTML: Final = "text/html; charset=utf-8"


def template_folder() -> Path:
    """Where the console's templates are: in an installed wheel, else in the checkout."""
    package = Path(broker.__file__).parent
    installed = package / "_templates" / "console"
    return installed if installed.is_dir() else package.parent / "templates" / "console"


def environment(files: StaticFiles) -> Environment:
    """Escaping, strict, and with what every template may call."""
    made = Environment(
        loader=FileSystemLoader(template_folder()),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters.update(FILTERS)
    made.globals.update(
        static=files.url,
        module=files.module_url,
        tone=tone,
        meaning=meaning,
        arch_title=arch_title,
        navigation=NAVIGATION,
        needs=NEEDS,
    )
    # as a global, so that a block rendered alone has it too
    made.globals["ui"] = made.get_template("macros.html").module
    return made


def may(identity: Identity) -> dict[str, bool]:
    """What this person may do, by the permission's name with underscores."""
    return {
        permission.value.replace("-", "_"): allows(identity.role, permission)
        for permission in Permission
    }


class Pages:
    """Renders pages and the parts of them that are fetched again."""

    def __init__(self, files: StaticFiles) -> None:
        self._environment = environment(files)

    def answer(
        self,
        call: Call,
        template: str,
        context: Mapping[str, Any],
        *,
        here: str,
        parts: Collection[str] = (),
        topics: str = "",
    ) -> web.Response:
        """The page, or one of its `parts` where htmx asks for the element of that id.

        here: the page's address in the navigation. topics: hints that its live parts wait for,
        separated by commas.
        """
        everything = {
            "me": call.who,
            "can": may(call.who),
            "here": here,
            "topics": topics,
            **context,
        }
        wanted = call.request.headers.get("HX-Target", "")
        if "HX-Request" in call.request.headers and wanted in parts:
            return self._html(call, self._part(template, wanted, everything))
        return self._html(call, self._environment.get_template(template).render(everything))

    def gate(
        self, call: Call, template: str, context: Mapping[str, Any], status: int = 200
    ) -> web.Response:
        """A page that needs no sign-in."""
        text = self._environment.get_template(template).render(context)
        return self._html(call, text, status)

    def _part(self, template: str, block: str, context: Mapping[str, Any]) -> str:
        loaded = self._environment.get_template(template)
        return "".join(loaded.blocks[block](loaded.new_context(dict(context))))

    def _html(self, call: Call, text: str, status: int = 200) -> web.Response:
        # not the route's: an address without a route gets a page too
        headers = call.web.surface_headers[Surface.PAGE].copy()
        headers[REQUEST_ID] = call.id
        headers["Content-Type"] = _HTML
        return web.Response(text=text, status=status, headers=headers)
