"""What the broker does: gather a snapshot, decide in the domain, act through a port.

Services know ports, never libraries (SQLAlchemy, aiohttp, libvirt, Jinja2, asyncssh).
"""
