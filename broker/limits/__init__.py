"""Every fixed limit, named, with its unit. What an administrator may change is in config.py."""

from __future__ import annotations

from broker.limits.displays import *  # noqa: F403
from broker.limits.engines import *  # noqa: F403
from broker.limits.links import *  # noqa: F403
from broker.limits.people import *  # noqa: F403
from broker.limits.planner import *  # noqa: F403
from broker.limits.store import *  # noqa: F403
from broker.limits.web import *  # noqa: F403
