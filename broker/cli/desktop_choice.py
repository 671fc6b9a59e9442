"""Which desktop a command is about."""

from __future__ import annotations

from typing import Any

from broker.cli.errors import CommandError
from broker.cli.remote import Remote, path_of
from broker.domain.errors import NotFoundError


async def find_desktop(remote: Remote, name: str) -> dict[str, Any]:
    """The desktop of that name or id. Raises CommandError."""
    async for one in remote.every("desktops", text=name):
        if one["name"] == name:
            return dict(one)
    try:
        return dict(await remote.get(path_of("desktops", name)))
    except CommandError as error:
        if error.code != NotFoundError.code:
            raise
        raise CommandError(
            error.title,
            detail=f"there is no desktop {name!r}",
            advice="`trivium desktop list` shows the names.",
            code=error.code,
            request_id=error.request_id,
        ) from None
