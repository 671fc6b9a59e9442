"""Every fixed limit of the harness, named, with its unit."""

from __future__ import annotations

from typing import Final

ARCHITECTURES: Final = ("vdi", "idv", "voi")
"""the order of every table and chart"""

SESSIONS_MAX: Final = 1_000_000
"""arrivals in one plan"""
CAST_BYTES_MAX: Final = 64 * 1024 * 1024
PLAN_BYTES_MAX: Final = 1024 * 1024 * 1024

IN_FLIGHT_MAX: Final = 2000
"""arrivals under way in one Locust process; past it an arrival is dropped and counted"""
LATE_MS: Final = 100.0
"""an arrival started this long after its due instant counts as late (it is timed from due)"""

RETRIES_MAX: Final = 6
"""tries again of one request"""
RETRY_PAUSE_S: Final = 0.5
"""first pause after a transport error; doubles each time"""
RETRY_AFTER_S_MAX: Final = 15.0
"""longest Retry-After that is honoured; a longer one ends the request as an error"""

POLL_WAIT_S: Final = 20
"""`wait_s` of a long poll; the API's own limit is 30"""
REQUEST_S: Final = 30.0
"""for one HTTP answer; longer than POLL_WAIT_S"""
CONNECT_S: Final = 10.0
"""for one TCP connection"""
LIVE_S: Final = 180.0
"""from the due instant to the live desktop; past it the session is stuck"""
END_S: Final = 60.0
"""from log-off to the ended session"""
SETTLE_S: Final = 45.0
"""after the last log-off, for every session to reach its end in the broker's records"""
SETTLE_LOOK_S: Final = 1.0
"""between two looks at the broker's records"""
WORKERS_LOOK_S: Final = 0.1
"""between two looks whether workers are still there"""
STOP_S: Final = 10
"""for people under way to log off when the campaign is interrupted"""

PROGRESS_S: Final = 0.5
"""between two lines of progress"""
SAMPLE_S: Final = 1.0
"""between two samples of the generator, the machine and the broker"""
BEGIN_S: Final = 0.5
"""from "every worker is ready" to the campaign's zero"""
PARENT_LOOK_S: Final = 1.0
"""between two looks of a Locust process whether its parent lives"""
WORKERS_S: Final = 60
"""for every Locust worker to connect"""

PAGE_LIMIT: Final = 500
"""rows in one page of the API"""
PAGES_MAX: Final = 4000
"""pages read from the broker after a campaign"""

HICCUP_S: Final = 1.0
"""length of the probe for scheduling hiccups"""
HICCUP_SLEEP_S: Final = 0.001
CEILING_S: Final = 1.0
"""length of the generator's ceiling probe"""
CEILING_CLIENTS: Final = 10
CEILING_REQUESTS_MAX: Final = 10_000

BOOTSTRAP_ROUNDS: Final = 400
BOOTSTRAP_SAMPLE_MAX: Final = 2000
"""values that the bootstrap resamples; more are thinned evenly first"""
PERCENTILE_TAIL_MIN: Final = 1
"""values that must lie beyond a percentile for it to be called known"""

HDR_LOWEST_US: Final = 1
HDR_HIGHEST_US: Final = 3_600_000_000
"""one hour, in microseconds"""
HDR_DIGITS: Final = 3

ERRORS_SHOWN_MAX: Final = 50
"""error classes listed in a report"""
CURVE_POINTS_MAX: Final = 240
"""points of one drawn line"""
