"""The examples that come with Trivium: in a checkout, or inside the installed package."""

from __future__ import annotations

from pathlib import Path

from broker.cli.errors import CommandError

_PACKAGE = Path(__file__).parents[1]


def example(name: str) -> Path:
    """The folder of an example.

    Raises:
        CommandError: it is not there.
    """
    for folder in (_PACKAGE / "_examples", _PACKAGE.parent / "examples"):
        if (folder / name).is_dir():
            return folder / name
    raise CommandError(
        f"The example {name!r} is missing",
        detail="neither the checkout nor the installed package has it",
        code="cli.no_example",
    )
