"""Every engine that is held to the contract, and what each claims to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
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
GUEST: Final = "guest"
"""what it hears of its machines' agents it tells, and they can be asked (GuestAgents)"""
INSPECT: Final = "inspect"
"""it tells what hosts can do, and looks at them before they are added (HostInspector)"""
IMAGES: Final = "images"
"""what removed images left on hosts it deletes there (ImageKeeper)"""
GROUP: Final = "trivium.engine_kinds"
"""the entry-point group in which another distribution names its EngineKind"""
TIME: Final = "time"
"""its calls take time, so that one may run past its deadline"""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineKind:
    """An engine that is held to the contract. `claims`: the features that it says it has, and
    DISPLAYS, GUEST, IMAGES, INSPECT and TIME; a test that needs more (`@pytest.mark.needs`) is not
    run for it. `real`: it starts machines."""

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


def _libvirt_lxc(request: pytest.FixtureRequest) -> EngineCase:
    from tests.support.libvirt_containers import containers_case  # noqa: PLC0415 - not everywhere

    return containers_case(request.getfixturevalue("container_lab"))


def _openstack(request: pytest.FixtureRequest) -> EngineCase:
    from tests.support.openstack_cases import openstack_case  # noqa: PLC0415 - not everywhere

    return openstack_case(request.getfixturevalue("openstack_lab"))


# whatever is added here, or below, is held to the whole contract
ENGINES: Final[tuple[EngineKind, ...]] = (
    EngineKind(
        name="simulated",
        make=lambda _: simulated_case(),
        claims=_ALL | {DISPLAYS, GUEST, IMAGES, INSPECT, TIME},
    ),
    EngineKind(
        name="simulated_container",
        make=lambda _: simulated_container_case(),
        claims=frozenset({Feature.RESIZE, Feature.HOST_POWER, DISPLAYS, IMAGES, INSPECT, TIME}),
    ),
    EngineKind(name="prompt", make=lambda _: prompt_case(), claims=_ALL),
)


_OF_LIBVIRT: Final[tuple[EngineKind, ...]] = (
    EngineKind(
        name="libvirt_test",
        make=_libvirt_test,
        claims=frozenset({Feature.SUSPEND, Feature.RESIZE, INSPECT}),
    ),
    EngineKind(
        name="libvirt_qemu",
        make=_libvirt_qemu,
        claims=frozenset(
            {
                Feature.SUSPEND,
                Feature.MIGRATE,
                Feature.RESIZE,
                Feature.SNAPSHOT,
                DISPLAYS,
                GUEST,
                IMAGES,
                INSPECT,
                TIME,
            }
        ),
        real=True,
    ),
    EngineKind(
        name="libvirt_lxc",
        make=_libvirt_lxc,
        claims=frozenset({Feature.RESIZE, INSPECT}),
        real=True,
    ),
)


_OF_OPENSTACK: Final = EngineKind(
    name="openstack",
    make=_openstack,
    claims=frozenset({Feature.SUSPEND, Feature.MIGRATE, DISPLAYS, INSPECT, TIME}),
    real=True,
)
"""run where it is named only: what `make test-openstack` installs takes a minute to start"""


def engines(*, real: bool, named: Sequence[str] = ()) -> tuple[EngineKind, ...]:
    """Those that tests run over: the named ones, or all of this project's that run anywhere.
    `real`: and those that need what `make libvirt` installs."""
    if named:
        return tuple(_named(name) for name in named)
    return ENGINES + _OF_LIBVIRT if real else ENGINES


def _named(name: str) -> EngineKind:
    """That kind, of this project or of any distribution that is installed."""
    for kind in (*ENGINES, *_OF_LIBVIRT, _OF_OPENSTACK):
        if kind.name == name:
            return kind
    for point in entry_points(group=GROUP, name=name):
        found = point.load()
        if isinstance(found, EngineKind):
            return found
    raise pytest.UsageError(f"no engine kind is called {name!r}")


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
