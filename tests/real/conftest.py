"""Real machines under real daemons; `make test-real` installs what they need."""

from __future__ import annotations

from tests.support.libvirt_lab import libvirt_lab, libvirt_lab_started

__all__ = ["libvirt_lab", "libvirt_lab_started"]
