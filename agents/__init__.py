"""Trivium's agents: the programs on endpoints, thin and fat, one or thousands in a process.

`core` decides and does no I/O; `runner` carries out for one endpoint what it decided; `fleet`
runs many. From the broker they import `broker.wire` and nothing else, and they install without
the server's libraries.
"""

__version__ = "0.1.0"
