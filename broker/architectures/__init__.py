"""VDI, IDV and VOI: what differs, one file each, and a registry.

The rest of the broker asks `rules_of(architecture)` and never compares architectures itself.
"""

from __future__ import annotations

from collections.abc import Mapping

from broker.architectures import idv, vdi, voi
from broker.architectures.rules import PhaseRule, Rules
from broker.domain.model import Architecture

RULES: Mapping[Architecture, Rules] = {
    rules.architecture: rules for rules in (vdi.RULES, idv.RULES, voi.RULES)
}


def rules_of(architecture: Architecture) -> Rules:
    return RULES[architecture]


__all__ = ["RULES", "PhaseRule", "Rules", "rules_of"]
