"""The deterministic simulation: real services and agents in virtual time, from one seed."""
