"""Ways in beside HTTP: the display relay and the support staff's SSH."""
