"""The libvirt engine: real machines on the hypervisors that libvirt speaks to.

It needs the extra `libvirt` (libvirt-python, which is built against the system's libvirt).
"""

from __future__ import annotations

from importlib.util import find_spec

from broker.domain.errors import ConfigError
from broker.engines.registry import EngineContext
from broker.ports import Engine

if find_spec("libvirt") is None:
    raise ConfigError("the libvirt engine needs libvirt-python: install trivium[libvirt]")

from broker.engines.libvirt.engine import LibvirtEngine


def build(context: EngineContext) -> Engine:
    """The factory that the entry point names."""
    return LibvirtEngine(
        clock=context.clock,
        chance=context.chance,
        ids=context.ids,
        installation_id=context.installation_id,
        data=context.data,
        guest_links=context.guests,
    )


__all__ = ["LibvirtEngine", "build"]
