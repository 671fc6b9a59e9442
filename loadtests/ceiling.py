"""How fast this machine's generator can be: a short, bounded loop against /healthz.

Run in its own process (`python -m loadtests.ceiling URL`), since importing Locust patches it;
prints one line of JSON. Broker and generator share the machine during the probe as they do
during the campaign, so the figure is what this pair can do here, not what either can do alone.
"""

from __future__ import annotations

import sys
import time

import gevent
import msgspec
from locust.contrib.fasthttp import FastHttpSession
from locust.event import EventHook

from loadtests.limits import CEILING_CLIENTS, CEILING_REQUESTS_MAX, CEILING_S, CONNECT_S
from loadtests.probe import Ceiling


def measure(url: str) -> Ceiling:
    """Loads /healthz for at most CEILING_S seconds and CEILING_REQUESTS_MAX requests."""
    counts = {"left": CEILING_REQUESTS_MAX, "ok": 0, "errors": 0}
    until = time.monotonic() + CEILING_S

    def work() -> None:
        http = FastHttpSession(
            url,
            EventHook(),  # type: ignore[no-untyped-call]
            None,
            insecure=False,
            network_timeout=CEILING_S,
            connection_timeout=CONNECT_S,
        )
        while counts["left"] > 0 and time.monotonic() < until:
            counts["left"] -= 1
            counts["ok" if http.get("/healthz").ok else "errors"] += 1
        http.client.close()

    begun, cpu = time.monotonic(), time.process_time()
    gevent.joinall([gevent.spawn(work) for _ in range(CEILING_CLIENTS)])
    seconds, cpu_s = time.monotonic() - begun, time.process_time() - cpu
    made = max(counts["ok"] + counts["errors"], 1)
    return Ceiling(
        requests=counts["ok"],
        errors=counts["errors"],
        seconds=round(seconds, 3),
        requests_per_s=round(counts["ok"] / seconds, 1),
        cpu_us_per_request=round(cpu_s / made * 1e6, 1),
    )


if __name__ == "__main__":
    sys.stdout.write(msgspec.json.encode(measure(sys.argv[1].rstrip("/"))).decode() + "\n")
