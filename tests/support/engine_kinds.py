"""Every engine that is held to the contract, and what each claims to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import pytest

from broker.domain.features import Feature
from tests.support.engines import (
    EngineCase,
    prompt_case,
    simulated_case,
    simulated_container_case,
)

DISPLAYS: Final = "displays"
"""it has displays"""
TIME: Final = "time"
"""its calls take time, so that one may run past its deadline"""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineKind:
    """An engine that is held to the contract. `claims`: the features that it says it has, and
    DISPLAYS and TIME; a test that needs more (`@pytest.mark.needs`) is not run for it.
    `real`: it starts machines."""

    name: str
    make: Callable[[pytest.FixtureRequest], EngineCase]
    claims: frozenset[str]
    real: bool = False

    @property
    def features(self) -> frozenset[Feature]:
        return frozenset(feature for feature in Feature if feature.value in self.claims)


_ALL: Final = frozenset(feature.value for feature in Feature)


def _libvirt_test(_: pytest.FixtureRequest) -> EngineCase:
    from tests.support.libvirt_cases import libvirt_test_case  # noqa: PLC0415 - not everywhere

    return libvirt_test_case()


def _libvirt_qemu(request: pytest.FixtureRequest) -> EngineCase:
    from tests.support.libvirt_cases import libvirt_qemu_case  # noqa: PLC0415 - not everywhere

    return libvirt_qemu_case(request.getfixturevalue("libvirt_lab"), clone="instant")


# whatever is added here, or below, is held to the whole contract
ENGINES: Final[tuple[EngineKind, ...]] = (
    EngineKind(name="simulated", make=lambda _: simulated_case(), claims=_ALL | {DISPLAYS, TIME}),
    EngineKind(
        name="simulated_container",
        make=lambda _: simulated_container_case(),
        claims=frozenset({Feature.RESIZE, Feature.HOST_POWER, DISPLAYS, TIME}),
    ),
    EngineKind(name="prompt", make=lambda _: prompt_case(), claims=_ALL),
)


_OF_LIBVIRT: Final[tuple[EngineKind, ...]] = (
    EngineKind(
        name="libvirt_test",
        make=_libvirt_test,
        claims=frozenset({Feature.SUSPEND, Feature.RESIZE}),
    ),
    EngineKind(
        name="libvirt_qemu",
        make=_libvirt_qemu,
        claims=frozenset({Feature.SUSPEND, Feature.MIGRATE, Feature.RESIZE, DISPLAYS, TIME}),
        real=True,
    ),
)


def engines(*, real: bool) -> tuple[EngineKind, ...]:
    """Those that tests run over. `real`: what `make test-real` installs is there."""
    return ENGINES + _OF_LIBVIRT if real else ENGINES


def left_out(item: pytest.Item) -> bool:
    """Whether the test needs what the engine that it would run over does not claim."""
    kind = _kind(item)
    needs = {need for mark in item.iter_markers("needs") for need in mark.args}
    return kind is not None and not needs <= kind.claims


def is_real(item: pytest.Item) -> bool:
    """Whether it starts machines."""
    kind = _kind(item)
    return kind is not None and kind.real


def _kind(item: pytest.Item) -> EngineKind | None:
    call = getattr(item, "callspec", None)
    found = call.params.get("kind") if call is not None else None
    return found if isinstance(found, EngineKind) else None
