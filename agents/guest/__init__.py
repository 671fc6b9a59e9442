"""The guest agent: what runs inside a desktop and tells its engine how the desktop is.

Python's standard library and nothing else, 3.9 or newer: the folder is copied into any guest. It
speaks the protocol of broker/guest_wire.py as JSON lines over a virtio-serial port. `core`
decides and does no I/O, `shell` moves the bytes, `machine` names what a platform must be able to
do, and `linux` does it on Linux: another system needs a class of that shape and nothing else.
"""
