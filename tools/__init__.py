"""Tools for people who work on Trivium; not part of what is installed."""
