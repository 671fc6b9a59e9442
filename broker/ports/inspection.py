"""Looking at hosts and at machines. An engine may do either beside making desktops; whoever asks
finds out first."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Protocol, runtime_checkable

from broker.domain.drift import Difference
from broker.domain.inspection import Abilities, Condition, Step
from broker.domain.model import Host
from broker.domain.silence import Silence
from broker.domain.storage import StorageClass
from broker.ports.engine import Operation


@runtime_checkable
class HostInspector(Protocol):
    async def abilities(self, host: Host) -> Abilities:
        """What this host can and cannot do, each with the reason in words. Raises EngineError
        when it does not answer."""

    def probe(self, host: Host) -> AsyncIterator[Step]:
        """Look, step by step, whether a host with this record would do; nothing is kept of it,
        and nothing is left there. Each step takes at most PROBE_STEP_S. Of steps that need one
        that failed none are told as found: they are unknown. It raises nothing."""


@runtime_checkable
class HostWatcher(Protocol):
    async def condition(self, host: Host) -> Condition:
        """How the host is at this moment; nothing is changed. Raises EngineError when it does not
        answer."""


@runtime_checkable
class HostListener(Protocol):
    def silence(self, host: Host) -> Silence | None:
        """Since when nothing is heard from the host, however short that is, and why; None: it is
        heard. Nothing is asked now: the engine hears its hosts all the time. Raises
        EngineError where it cannot tell, for it cannot read the host's profile."""


@runtime_checkable
class ProfileReader(Protocol):
    def home(self, profile: str) -> Mapping[str, str]:
        """What of a host's profile says where its machines live and how they are found again:
        words for it -> what it says. A host that has machines may get another profile as long as
        all that was said so is still said: what is new beside it takes nothing away. Nothing is
        asked now.

        Raises EngineError for a profile or knob that it does not understand, UnsupportedError for
        one with which no desktops are made."""


@runtime_checkable
class StorageTeller(Protocol):
    def storage_classes(self, host: Host) -> Mapping[str, StorageClass]:
        """The host's classes of storage by name, OWN among them, as they were seen last; nothing
        is asked now. None for a host without classes, which is placed on as if there were no such
        thing. It raises nothing."""


@runtime_checkable
class DriftInspector(Protocol):
    async def drift(self, operation: Operation) -> tuple[Difference, ...]:
        """How the desktop's machine, where it is on, differs from what this operation would make
        it; none when it is as it should be. Nothing is changed, and the operation's id means
        nothing. Raises EngineError when there is no such machine, or its host does not answer."""
