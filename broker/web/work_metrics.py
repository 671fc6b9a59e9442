"""The reconciler and the shared work of this process, for Prometheus."""

from __future__ import annotations

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from broker.services.bundle import Services
from broker.services.shared_work import Work


def work_metrics(services: Services) -> list[Metric]:
    """Without asking the store: what this process did and what it holds."""
    reconciler = services.reconciler
    leases = GaugeMetricFamily(
        "trivium_lease_held", "Whether this process does that shared work", labels=("work",)
    )
    held = services.shared.held
    for work in Work:
        leases.add_metric((work.value,), float(work.value in held))
    commands = CounterMetricFamily(
        "trivium_reconciler_commands",
        "What the reconciler of this process carried out, and what became of it",
        labels=("command", "result"),
    )
    for (command, result), count in sorted(reconciler.results.items()):
        commands.add_metric((command, result), count)
    failures = CounterMetricFamily(
        "trivium_reconciler_failures",
        "Looks, chores and comparisons that failed in this process",
        labels=("what",),
    )
    for what, count in sorted(reconciler.failures.items()):
        failures.add_metric((what,), count)
    strays = CounterMetricFamily(
        "trivium_strays_resolved",
        "Machines that nobody should have, and rows without theirs, put right by this process",
        labels=("command",),
    )
    for command, count in sorted(reconciler.strays_resolved.items()):
        strays.add_metric((command,), count)
    asks = CounterMetricFamily(
        "trivium_guest_asks",
        "What sessions owed to the agents in desktops that this process asked, and what came of it",
        labels=("what", "result"),
    )
    for (what, result), count in sorted(services.guest_care.results.items()):
        asks.add_metric((what, result), count)
    found: list[Metric] = [leases, commands, failures, strays, asks]
    if services.breakers.paused is not None:
        paused = GaugeMetricFamily(
            "trivium_breakers_open",
            "Pools and hosts between which no machine is begun, as this process read it last",
            value=services.breakers.paused,
        )
        found.append(paused)
    if services.drifts.count is not None:
        drifted = GaugeMetricFamily(
            "trivium_desktops_drifted",
            "Desktops whose machines are not what they should be, as this process found",
            value=services.drifts.count,
        )
        found.append(drifted)
    if services.host_silence.count is not None:
        silent = GaugeMetricFamily(
            "trivium_hosts_silent",
            "Hosts that should run and are not heard, as this process found",
            value=services.host_silence.count,
        )
        found.append(silent)
    if reconciler.looked_at_s is not None:
        age = GaugeMetricFamily(
            "trivium_reconciler_look_age_seconds",
            "Time since the last look of this process that ended well",
            value=services.kit.clock.monotonic() - reconciler.looked_at_s,
        )
        found.append(age)
    return found
