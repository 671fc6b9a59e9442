"""What is decided, and nothing of how it is done.

Pure Python: standard library only, no clock, no ids, no chance, no I/O. Times are
integers, milliseconds since the Unix epoch in UTC (`Instant`), and come in as arguments.
"""
