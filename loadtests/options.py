"""The options that several commands share, and how they become a recipe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click
import msgspec

from loadtests.arrivals import PROCESSES
from loadtests.cast import Cast
from loadtests.plan import PlanError, Recipe, mix_of

Command = TypeVar("Command", bound=Callable[..., Any])

_RECIPE: tuple[Callable[[Any], Any], ...] = (
    click.option("--seed", type=int, default=1, show_default=True, help="Decides every draw."),
    click.option("--sessions", type=int, default=220, show_default=True, help="Arrivals in all."),
    click.option(
        "--arrivals",
        type=click.Choice(list(PROCESSES)),
        default="poisson",
        show_default=True,
        help="When people come.",
    ),
    click.option(
        "--window-s", type=float, default=60.0, show_default=True, help="Arrivals lie within it."
    ),
    click.option(
        "--mix",
        default=None,
        metavar="vdi=1,idv=1,voi=1",
        help="Weight of each architecture; the same for all of the cast if left out.",
    ),
    click.option(
        "--work-s",
        default="6:14",
        show_default=True,
        metavar="LEAST:MOST",
        help="Length of a session's work, drawn evenly between the two.",
    ),
    click.option(
        "--think-s", type=float, default=3.0, show_default=True, help="Mean time between calls."
    ),
    click.option(
        "--browser-share",
        type=float,
        default=0.1,
        show_default=True,
        help="Part of the VDI arrivals that opens the display itself, without an endpoint.",
    ),
    click.option(
        "--turn-s",
        type=float,
        default=30.0,
        show_default=True,
        help="Between two planned uses of one person or endpoint.",
    ),
)


def recipe_options(command: Command) -> Command:
    """Adds the options of a recipe to a command."""
    for option in reversed(_RECIPE):
        command = option(command)
    return command


def recipe_of(cast: Cast, values: dict[str, Any]) -> Recipe:
    """The recipe that the options of `recipe_options` describe.

    Raises:
        PlanError: a value is not valid.
    """
    least, _, most = str(values["work_s"]).partition(":")
    try:
        return msgspec.convert(
            {
                "seed": values["seed"],
                "sessions": values["sessions"],
                "arrivals": values["arrivals"],
                "window_s": values["window_s"],
                "mix": mix_of(cast, _weights(values["mix"])),
                "work_min_s": float(least),
                "work_max_s": float(most or least),
                "think_mean_s": values["think_s"],
                "browser_share": values["browser_share"],
                "turn_s": values["turn_s"],
            },
            Recipe,
        )
    except (ValueError, msgspec.ValidationError) as error:
        raise PlanError(f"the recipe is not valid: {error}") from error


def command_of(recipe: Recipe) -> str:
    """The command that makes the same plan again from the same cast."""
    mix = ",".join(f"{name}={weight:g}" for name, weight in recipe.mix.items())
    return (
        "python -m loadtests run --cast CAST --out FOLDER"
        f" --seed {recipe.seed} --sessions {recipe.sessions} --arrivals {recipe.arrivals}"
        f" --window-s {recipe.window_s:g} --mix {mix}"
        f" --work-s {recipe.work_min_s:g}:{recipe.work_max_s:g}"
        f" --think-s {recipe.think_mean_s:g} --browser-share {recipe.browser_share:g}"
        f" --turn-s {recipe.turn_s:g}"
    )


def _weights(text: str | None) -> dict[str, float] | None:
    if text is None:
        return None
    weights = {}
    for part in text.split(","):
        name, _, weight = part.strip().partition("=")
        weights[name] = float(weight or 1)
    return weights
