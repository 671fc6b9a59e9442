"""The `trivium` command: what people and programs do to a broker from a terminal."""

from __future__ import annotations

from broker.cli.root import main

__all__ = ["main"]
