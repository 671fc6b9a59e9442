"""In and out: sign-in, sign-out, the first administrator's link, and error pages.

These forms are posted plainly, before there is a cookie, so the page that they come from is
known by its Origin alone: it must be there, and the pipeline has checked that it is ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlsplit

from aiohttp import hdrs, web

from broker.domain.errors import (
    BadMediaTypeError,
    BadOriginError,
    BadRequestError,
    NotSignedInError,
    SetupClosedError,
    TriviumError,
)
from broker.domain.model import Identity
from broker.domain.roles import Permission, allows
from broker.limits import FORM_BYTES_MAX, PASSWORD_CHARS_MAX, PASSWORD_CHARS_MIN
from broker.web.access import Access
from broker.web.audited import SET_UP, SIGN_IN, SIGN_OUT
from broker.web.body import read_bytes
from broker.web.call import Call
from broker.web.console.lists import filter_text
from broker.web.console.render import Pages
from broker.web.cookies import clear_cookie, set_cookie
from broker.web.problems import problem_response, status_of
from broker.web.routes import Route, Surface

_FORM_TYPE: Final = "application/x-www-form-urlencoded"
_NEXT_CHARS_MAX: Final = 1000
_NEXT: Final = filter_text("next", "the page to go to afterwards", _NEXT_CHARS_MAX)


async def read_form(call: Call, fields: frozenset[str]) -> dict[str, str]:
    """The form's fields; those that were not sent are empty.

    Raises:
        BadOriginError: no Origin came along. BadMediaTypeError, BodyTooLargeError.
        BadRequestError: it is not a form in UTF-8, or has other fields, or one twice.
    """
    headers = call.request.headers
    if hdrs.ORIGIN not in headers:
        raise BadOriginError("a browser's form has an Origin")
    if headers.get(hdrs.CONTENT_TYPE, "").partition(";")[0].strip().lower() != _FORM_TYPE:
        raise BadMediaTypeError("only a form is taken here")
    raw = await read_bytes(call.request, FORM_BYTES_MAX)
    if not raw:
        return dict.fromkeys(fields, "")
    try:
        pairs = parse_qsl(
            raw.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=len(fields),
        )
    except ValueError:
        raise BadRequestError("the form cannot be read") from None
    found = dict(pairs)
    if len(found) != len(pairs) or found.keys() - fields:
        raise BadRequestError("the form has a field that is not known here, or one twice")
    if any("\0" in value for value in found.values()):
        raise BadRequestError("the form has a NUL in a text")
    return {name: found.get(name, "") for name in fields}


def home_of(identity: Identity) -> str:
    return "/overview" if allows(identity.role, Permission.READ) else "/me"


def local_path(text: str) -> str | None:
    """The address if it is a page of this site, else None: nobody is sent elsewhere."""
    if not text.startswith("/") or not text.isprintable() or "\\" in text:
        return None
    parts = urlsplit(text)
    return text if not parts.netloc and not text.startswith("//") else None


def see_other(call: Call, path: str) -> web.Response:
    headers = call.headers()
    headers[hdrs.LOCATION] = path
    return web.Response(status=web.HTTPSeeOther.status_code, headers=headers)


def shown(error: TriviumError) -> dict[str, Any]:
    """An error as the forms show it."""
    wait_s = math.ceil(error.retry_after_s) if error.retry_after_s is not None else None
    return {
        "title": error.title,
        "detail": error.detail,
        "advice": error.advice,
        "code": error.code,
        "wait_s": wait_s,
    }


class SignInPages:
    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    async def start(self, call: Call) -> web.StreamResponse:
        return see_other(call, home_of(call.who))

    # ------------------------------------------------------------------ sign-in

    async def sign_in_form(self, call: Call) -> web.StreamResponse:
        identity = await call.maybe_identify()
        wanted = call.query.get("next") or ""
        if identity is not None:
            return see_other(call, local_path(wanted) or home_of(identity))
        return await self._sign_in_page(call, {"next": wanted, "username": ""}, None)

    async def sign_in(self, call: Call) -> web.StreamResponse:
        form = await read_form(call, frozenset({"username", "password", "next"}))
        accounts = call.web.services.accounts
        try:
            signed_in = await accounts.sign_in(
                form["username"], form["password"], call.address, "web", request_id=call.id
            )
        except TriviumError as error:
            return await self._sign_in_page(call, form, error)
        identity = await accounts.identify(signed_in.token)
        response = see_other(call, local_path(form["next"]) or home_of(identity))
        set_cookie(response, signed_in.token, https=call.web.https)
        return response

    async def _sign_in_page(
        self, call: Call, form: Mapping[str, str], error: TriviumError | None
    ) -> web.Response:
        has_administrator = await call.web.services.kit.store.directory.has_administrator()
        context = {
            "next": form["next"],
            "username": form["username"],
            "problem": shown(error) if error is not None else None,
            "first_run": not has_administrator,
        }
        status = status_of(error) if error is not None else 200
        return self._pages.gate(call, "sign_in.html", context, status)

    async def sign_out(self, call: Call) -> web.StreamResponse:
        await read_form(call, frozenset())
        identity = await call.maybe_identify()
        if identity is not None:
            await call.web.services.accounts.sign_out(identity, call.origin)
        response = see_other(call, "/sign-in")
        clear_cookie(response, https=call.web.https)
        return response

    # ------------------------------------------------------------------ first run

    async def setup_form(self, call: Call) -> web.StreamResponse:
        closed = await call.web.services.kit.store.directory.has_administrator()
        form = {"secret": "", "username": "", "display_name": ""}
        return self._setup_page(call, form, SetupClosedError() if closed else None)

    async def set_up(self, call: Call) -> web.StreamResponse:
        names = frozenset({"secret", "username", "password", "display_name"})
        form = await read_form(call, names)
        try:
            signed_in = await call.web.services.accounts.set_up(
                form["secret"],
                form["username"],
                form["password"],
                form["display_name"],
                call.origin,
            )
        except TriviumError as error:
            return self._setup_page(call, form, error)
        response = see_other(call, "/overview")
        set_cookie(response, signed_in.token, https=call.web.https)
        return response

    def _setup_page(
        self, call: Call, form: Mapping[str, str], error: TriviumError | None
    ) -> web.Response:
        context = {
            "secret": form["secret"],
            "username": form["username"],
            "display_name": form["display_name"],
            "closed": isinstance(error, SetupClosedError),
            "problem": shown(error) if error is not None else None,
            "password_min": PASSWORD_CHARS_MIN,
            "password_max": PASSWORD_CHARS_MAX,
        }
        status = status_of(error) if error is not None else 200
        return self._pages.gate(call, "setup.html", context, status)

    # ------------------------------------------------------------------ errors

    async def error_page(self, call: Call, error: TriviumError, status: int) -> web.StreamResponse:
        """What a person sees instead of problem+json. Scripts get that, to show it in place."""
        request = call.request
        if "HX-Request" in request.headers or request.headers.get("Sec-Fetch-Mode") == "cors":
            return problem_response(
                error, request_id=call.id, path=request.path, headers=call.headers()
            )
        if isinstance(error, NotSignedInError):
            wanted = request.path_qs if request.method == hdrs.METH_GET else "/"
            suffix = f"?next={quote(wanted, safe='')}" if wanted != "/" else ""
            return see_other(call, f"/sign-in{suffix}")
        context = {"problem": {**shown(error), "request_id": call.id}}
        return self._pages.gate(call, "error.html", context, status)

    def routes(self) -> tuple[Route, ...]:
        public = (
            ("GET", "/sign-in", self.sign_in_form, "Sign in", (_NEXT,), None),
            ("POST", "/sign-in", self.sign_in, "Sign in", (), SIGN_IN),
            ("POST", "/sign-out", self.sign_out, "Sign out", (), SIGN_OUT),
            ("GET", "/setup", self.setup_form, "First administrator", (), None),
            ("POST", "/setup", self.set_up, "First administrator", (), SET_UP),
        )
        return (
            Route(
                method="GET",
                path="/",
                handler=self.start,
                need=Access.SIGNED_IN,
                summary="To the caller's first page",
                surface=Surface.PAGE,
            ),
            *(
                Route(
                    method=method,
                    path=path,
                    handler=handler,
                    need=Access.PUBLIC,
                    summary=summary,
                    query=query,
                    surface=Surface.PAGE,
                    audit=audit,
                )
                for method, path, handler, summary, query, audit in public
            ),
        )
