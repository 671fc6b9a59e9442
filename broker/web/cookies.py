"""The console's cookie: its name, its flags, and reading it back."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from broker.limits import TOKEN_S

_SECURE_NAME: Final = "__Host-trivium"
_PLAIN_NAME: Final = "trivium"


def cookie_name(*, https: bool) -> str:
    """`__Host-` makes browsers refuse one that a neighbouring site set; it needs https."""
    return _SECURE_NAME if https else _PLAIN_NAME


def set_cookie(response: web.StreamResponse, token: str, *, https: bool) -> None:
    """Keep the token in the browser for as long as it lives, out of reach of scripts."""
    response.set_cookie(
        cookie_name(https=https),
        token,
        max_age=TOKEN_S,
        path="/",
        secure=https,
        httponly=True,
        samesite="Strict",
    )


def clear_cookie(response: web.StreamResponse, *, https: bool) -> None:
    response.del_cookie(
        cookie_name(https=https), path="/", secure=https, httponly=True, samesite="Strict"
    )


def read_cookie(header: str, *, https: bool) -> str | None:
    """The token in a Cookie header. None without one, and also with two of that name: the
    second may have been set by somebody else, and it is not known which one is ours."""
    name = cookie_name(https=https)
    found = [
        value.strip()
        for key, _, value in (pair.partition("=") for pair in header.split(";"))
        if key.strip() == name
    ]
    return found[0] if len(found) == 1 and found[0] else None
