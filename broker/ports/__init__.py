"""What the services need from outside, as protocols: store, engine, events, endpoints, clock.

Adapters implement these and do not know each other; `broker.app` alone puts them together. Each
port has a contract suite in tests/contract that every implementation passes, fakes included.
"""

from broker.ports.engine import (
    Console,
    Engine,
    Machine,
    MachineReport,
    Operation,
)
from broker.ports.links import (
    DisplayClient,
    Displays,
    EndpointLink,
    Events,
    FreshOrder,
    Hint,
    Line,
    StartOrder,
    StopOrder,
    Subscription,
)
from broker.ports.records import (
    AuthToken,
    ClaimOutcome,
    ClaimRequest,
    OneUseSecret,
    Overview,
    Page,
    PageQuery,
    Release,
    RosterChange,
)
from broker.ports.store import (
    CampaignStore,
    CredentialStore,
    DesktopStore,
    DirectoryStore,
    EndpointStore,
    JobStore,
    SessionStore,
    Store,
)
from broker.ports.system import (
    Chance,
    Clock,
    Ids,
    ImageSource,
    PasswordHasher,
    Signatures,
)

__all__ = [
    "AuthToken",
    "CampaignStore",
    "Chance",
    "ClaimOutcome",
    "ClaimRequest",
    "Clock",
    "Console",
    "CredentialStore",
    "DesktopStore",
    "DirectoryStore",
    "DisplayClient",
    "Displays",
    "EndpointLink",
    "EndpointStore",
    "Engine",
    "Events",
    "FreshOrder",
    "Hint",
    "Ids",
    "ImageSource",
    "JobStore",
    "Line",
    "Machine",
    "MachineReport",
    "OneUseSecret",
    "Operation",
    "Overview",
    "Page",
    "PageQuery",
    "PasswordHasher",
    "Release",
    "RosterChange",
    "SessionStore",
    "Signatures",
    "StartOrder",
    "StopOrder",
    "Store",
    "Subscription",
]
