"""Real machines under real daemons; `make libvirt` installs what they need."""

from __future__ import annotations

from tests.support.libvirt_containers import container_lab
from tests.support.libvirt_lab import libvirt_lab, libvirt_lab_started
from tests.support.real_school import desktop_lab
from tests.support.storage_machine import storage_machine

__all__ = ["container_lab", "desktop_lab", "libvirt_lab", "libvirt_lab_started", "storage_machine"]
