"""What the services need from outside, as protocols: store, engine, events, endpoints, clock.

Adapters implement these and do not know each other; `broker.app` alone puts them together. Each
port has a contract suite in tests/contract that every implementation passes, fakes included.
"""

from broker.domain.features import Feature
from broker.ports.directory import DirectoryStore
from broker.ports.engine import (
    Console,
    Engine,
    Machine,
    MachineReport,
    Operation,
)
from broker.ports.links import (
    ConsentOrder,
    DisplayClient,
    Displays,
    EndpointLink,
    Events,
    FreshOrder,
    Hint,
    Line,
    NoticeOrder,
    Order,
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
    SessionChange,
)
from broker.ports.store import (
    CampaignStore,
    CredentialStore,
    DesktopStore,
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
from broker.ports.trail import (
    AuditStore,
    BackupStore,
    Document,
    DocumentStore,
    LeaseStore,
    TableDump,
)

__all__ = [
    "AuditStore",
    "AuthToken",
    "BackupStore",
    "CampaignStore",
    "Chance",
    "ClaimOutcome",
    "ClaimRequest",
    "Clock",
    "ConsentOrder",
    "Console",
    "CredentialStore",
    "DesktopStore",
    "DirectoryStore",
    "DisplayClient",
    "Displays",
    "Document",
    "DocumentStore",
    "EndpointLink",
    "EndpointStore",
    "Engine",
    "Events",
    "Feature",
    "FreshOrder",
    "Hint",
    "Ids",
    "ImageSource",
    "JobStore",
    "LeaseStore",
    "Line",
    "Machine",
    "MachineReport",
    "NoticeOrder",
    "OneUseSecret",
    "Operation",
    "Order",
    "Overview",
    "Page",
    "PageQuery",
    "PasswordHasher",
    "Release",
    "RosterChange",
    "SessionChange",
    "SessionStore",
    "Signatures",
    "StartOrder",
    "StopOrder",
    "Store",
    "Subscription",
    "TableDump",
]
