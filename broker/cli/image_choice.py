"""Which version of an image a command is about, and how one is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broker.cli.errors import CommandError
from broker.cli.output import clean, name_of
from broker.cli.remote import Remote
from broker.domain.errors import NotFoundError


async def find_image(remote: Remote, name: str) -> dict[str, Any]:
    """The version `name@version`. Raises CommandError."""
    async for one in remote.every("images"):
        if name in {f"{one['name']}@{one['version']}", one["id"]}:
            return dict(one)
    raise CommandError(
        NotFoundError.title,
        detail=f"there is no image {name!r}",
        advice="`trivium image list` shows them; name one as in school@3.",
        code=NotFoundError.code,
    )


def version_of(image: Mapping[str, Any]) -> str:
    """As pools name it: name@version."""
    return f"{name_of(image)}@{clean(image['version'])}"


def made_from(desktop: Mapping[str, Any], *, whole: bool = False) -> str:
    """What a desktop's machine was made from, and whether its pool has another image now; with
    `whole`, which."""
    image, due = desktop.get("image"), desktop.get("image_due")
    was = version_of(image) if image else "not known" if due else ""
    if not due:
        return was
    now = f"the pool has {version_of(due)}" if whole else "old"
    return f"[yellow]{was}, {now}[/]"
