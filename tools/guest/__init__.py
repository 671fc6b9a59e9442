"""The test guest: a small Debian machine with a screen, made from packages. See `build`."""
