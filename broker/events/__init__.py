"""Hints between tasks (memory) and between processes (NATS)."""
