"""The architectures that an endpoint can carry, by the name that a Start order gives."""

from __future__ import annotations

from agents.core.endpoint import Architectures
from agents.idv import IdvSession
from agents.thin import ThinSession
from agents.voi import VoiSession

ARCHITECTURES: Architectures = {
    session.architecture: session for session in (ThinSession, IdvSession, VoiSession)
}
