"""The OpenStack engine: desktops that are servers of a cloud's compute service.

It needs the extra `openstack` (openstacksdk).
"""

from __future__ import annotations

from importlib.util import find_spec

from broker.domain.errors import ConfigError
from broker.engines.registry import EngineContext
from broker.ports import Engine

if find_spec("openstack") is None:
    raise ConfigError("the OpenStack engine needs openstacksdk: install trivium[openstack]")

from broker.engines.openstack.engine import OpenStackEngine


def build(context: EngineContext) -> Engine:
    """The factory that the entry point names."""
    if context.data is None:
        raise ConfigError("the OpenStack engine needs a data folder with its clouds.yaml")
    return OpenStackEngine(
        clock=context.clock,
        chance=context.chance,
        installation_id=context.installation_id,
        clouds=context.data / "openstack" / "clouds.yaml",
        guest_links=context.guests,
    )


__all__ = ["OpenStackEngine", "build"]
