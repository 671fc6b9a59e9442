"""How hypervisor hosts are reached: over SSH with the broker's own key, or over TLS with
certificates that the administrator puts into the data directory. No engine's libraries here."""
