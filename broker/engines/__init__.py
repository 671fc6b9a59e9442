"""Engines make desktops. Found by the entry-point group `trivium.engines`."""
