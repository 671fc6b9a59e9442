"""The endpoint without I/O: events in, commands out, time and chance passed in.

The same code is a real agent, one of ten thousand simulated ones, and a unit test. Nothing in
here opens a socket, reads a clock or draws chance. Start at `endpoint.Endpoint.handle`.
"""
