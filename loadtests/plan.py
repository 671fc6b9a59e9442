"""The plan: every arrival of a campaign, decided before it begins, from a seed and a cast.

A plan is canonical JSON Lines: a header, then one line for each arrival in order of its due
instant. The same recipe, seed and cast give the same bytes and thus the same SHA-256. It carries
no address and no secret.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec

from loadtests.arrivals import PROCESSES, chance
from loadtests.cast import Cast
from loadtests.limits import ARCHITECTURES, PLAN_BYTES_MAX, SESSIONS_MAX
from loadtests.seating import Seats

CALLS: tuple[str, ...] = ("session", "session", "pools", "me")
"""what a person asks the broker for while at work; repeated entries are more likely"""

Seconds = Annotated[float, msgspec.Meta(ge=0.0, le=86_400.0)]


class PlanError(Exception):
    """The plan cannot be made or read; the text says why."""


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a plan is made from. Times in seconds.

    window_s: the arrivals lie within it. mix: weight of each architecture. work_min_s,
    work_max_s: a session's work is drawn evenly between them. think_mean_s: mean of the
    exponential pause between two calls within a session. browser_share: part of the VDI arrivals
    that opens the display itself, without an endpoint. turn_s: between the planned end of a
    session and the next use of its person or endpoint.
    """

    seed: int
    sessions: Annotated[int, msgspec.Meta(ge=1, le=SESSIONS_MAX)]
    arrivals: str = "poisson"
    window_s: Seconds = 60.0
    mix: dict[str, Annotated[float, msgspec.Meta(ge=0.0)]]
    work_min_s: Seconds = 6.0
    work_max_s: Seconds = 14.0
    think_mean_s: Annotated[float, msgspec.Meta(gt=0.0, le=3600.0)] = 3.0
    browser_share: Annotated[float, msgspec.Meta(ge=0.0, le=1.0)] = 0.1
    turn_s: Seconds = 30.0


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """Within a session: think for `think_s`, then make `call`."""

    think_s: float
    call: str


class Arrival(msgspec.Struct, frozen=True, kw_only=True):
    """One person who comes at `due_s` after the campaign's zero. `endpoint` None: a browser."""

    index: int
    due_s: float
    architecture: str
    username: str
    pool: str
    endpoint: str | None
    work_s: float
    steps: tuple[Step, ...]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A recipe and the arrivals that it gave, in order."""

    recipe: Recipe
    arrivals: tuple[Arrival, ...]

    def share(self, worker: int, workers: int) -> tuple[Arrival, ...]:
        """The part of one of several workers: every arrival belongs to exactly one."""
        if not 0 <= worker < workers:
            raise PlanError(f"there is no worker {worker} among {workers}")
        return self.arrivals[worker::workers]


class _Header(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="trivium.plan"):
    recipe: Recipe
    version: int = 1


def mix_of(cast: Cast, weights: dict[str, float] | None) -> dict[str, float]:
    """`weights`, or the same for each architecture of which the cast has a pool."""
    if weights is None:
        weights = {pool.architecture: 1.0 for pool in cast.pools}
    return {name: float(weights[name]) for name in ARCHITECTURES if weights.get(name)}


def make_plan(cast: Cast, recipe: Recipe) -> Plan:
    """Decides every arrival.

    Raises:
        PlanError: the recipe contradicts itself or names what there is not.
        SeatingError: the cast is too small for it.
    """
    _check(recipe)
    process = PROCESSES[recipe.arrivals]
    offsets = process(recipe.seed, recipe.sessions, recipe.window_s)
    architectures = _deal(recipe)
    seats = Seats(cast, recipe.seed)
    arrivals = []
    for index, (offset, architecture) in enumerate(zip(offsets, architectures, strict=True)):
        due_s = _ms(offset)
        draw = chance(recipe.seed, f"{index}:work")
        work_s = _ms(draw.uniform(recipe.work_min_s, recipe.work_max_s))
        browser = architecture == "vdi" and draw.random() < recipe.browser_share
        username, pool, endpoint = seats.seat(
            index,
            architecture,
            at=due_s,
            until=due_s + work_s + recipe.turn_s,
            browser=browser,
        )
        arrivals.append(
            Arrival(
                index=index,
                due_s=due_s,
                architecture=architecture,
                username=username,
                pool=pool,
                endpoint=endpoint,
                work_s=work_s,
                steps=_steps(recipe, index, work_s),
            )
        )
    return Plan(recipe=recipe, arrivals=tuple(arrivals))


def check_people(plan: Plan, cast: Cast) -> None:
    """Raises PlanError where `plan` names a person, pool or endpoint that `cast` lacks."""
    people = {person.username for person in cast.people}
    pools = {pool.name for pool in cast.pools}
    endpoints = {endpoint.name for endpoint in cast.endpoints} | {None}
    for each in plan.arrivals:
        if each.username not in people or each.pool not in pools or each.endpoint not in endpoints:
            raise PlanError(f"the plan is of another cast: arrival {each.index} is not in this one")


def encode_plan(plan: Plan) -> bytes:
    lines: list[_Header | Arrival] = [_Header(recipe=plan.recipe), *plan.arrivals]
    return b"".join(msgspec.json.encode(line, order="sorted") + b"\n" for line in lines)


def sha256_of(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def read_plan(path: Path) -> tuple[Plan, str]:
    """The plan in `path` and its SHA-256.

    Raises:
        PlanError: the file cannot be read or is not a plan.
    """
    try:
        with path.open("rb") as file:
            body = file.read(PLAN_BYTES_MAX + 1)
    except OSError as error:
        raise PlanError(f"{path.name} cannot be read: {error.strerror}") from error
    if len(body) > PLAN_BYTES_MAX:
        raise PlanError(f"{path.name} is larger than {PLAN_BYTES_MAX} bytes")
    lines = body.splitlines()
    try:
        header = msgspec.json.decode(lines[0] if lines else b"", type=_Header)
        decode = msgspec.json.Decoder(Arrival).decode
        arrivals = tuple(decode(line) for line in lines[1:])
    except msgspec.DecodeError as error:
        raise PlanError(f"{path.name} is not a plan: {error}") from error
    return Plan(recipe=header.recipe, arrivals=arrivals), sha256_of(body)


def _check(recipe: Recipe) -> None:
    if recipe.arrivals not in PROCESSES:
        known = ", ".join(PROCESSES)
        raise PlanError(f"unknown arrival process {recipe.arrivals}; there are {known}")
    unknown = set(recipe.mix) - set(ARCHITECTURES)
    if unknown:
        raise PlanError(f"unknown architecture {min(unknown)} in the mix")
    if sum(recipe.mix.values()) <= 0:
        raise PlanError("the mix is empty")
    if recipe.work_max_s < recipe.work_min_s:
        raise PlanError("the longest work is shorter than the shortest")
    if recipe.window_s <= 0:
        raise PlanError("the window has no length")


def _deal(recipe: Recipe) -> Sequence[str]:
    """Exactly the mix (largest remainder), in an order drawn from the seed."""
    names = [name for name in ARCHITECTURES if recipe.mix.get(name)]
    total = sum(recipe.mix[name] for name in names)
    exact = {name: recipe.sessions * recipe.mix[name] / total for name in names}
    counts = {name: math.floor(exact[name]) for name in names}
    left = recipe.sessions - sum(counts.values())
    for name in sorted(names, key=lambda name: counts[name] - exact[name])[:left]:
        counts[name] += 1
    dealt = [name for name in names for _ in range(counts[name])]
    chance(recipe.seed, "mix").shuffle(dealt)
    return dealt


def _steps(recipe: Recipe, index: int, work_s: float) -> tuple[Step, ...]:
    draw = chance(recipe.seed, f"{index}:steps")
    steps: list[Step] = []
    left = work_s
    while (think_s := _ms(draw.expovariate(1 / recipe.think_mean_s))) < left:
        steps.append(Step(think_s=think_s, call=draw.choice(CALLS)))
        left -= max(think_s, 0.001)
    return tuple(steps)


def _ms(seconds: float) -> float:
    return round(seconds, 3)
