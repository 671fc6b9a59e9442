"""The headers that every answer carries, by what it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from multidict import CIMultiDict

from broker.web.routes import Surface

HSTS_S: Final = 2 * 365 * 24 * 3600
"""how long a browser insists on https, in seconds"""

_EVERY: Final[Mapping[str, str]] = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # instead of the library's default, which names its version
    "Server": "Trivium",
}
_NO_CONTENT: Final = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; sandbox"
_PAGE: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; frame-src 'self'; manifest-src 'self'; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
REPORT_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'; sandbox"
)
"""For a campaign's report: one file with its own style sheet and no script, in an origin of its
own without cookies, network or forms."""


def headers_of(surface: Surface, *, https: bool) -> CIMultiDict[str]:
    """What answers of this surface carry; `https`: the site is reached by https only."""
    found = CIMultiDict(_EVERY)
    page = surface is Surface.PAGE
    found["Content-Security-Policy"] = _PAGE if page else _NO_CONTENT
    if page:
        found["X-Frame-Options"] = "DENY"
        found["Permissions-Policy"] = "camera=(), microphone=(), geolocation=(), usb=()"
    if https:
        found["Strict-Transport-Security"] = f"max-age={HSTS_S}; includeSubDomains"
    return found
