"""libvirt's own event loop, on a thread of its own, one for the whole process.

libvirt takes one event loop in the life of a process, and its calls, which block and so run in
threads, add and remove handles of that loop. libvirt's loop is made for that; asyncio's is not
(libvirtaio adds readers and makes tasks from whatever thread it is called in). What happens is
handed to asyncio with `call_soon_threadsafe` by whoever registers a callback.
"""

from __future__ import annotations

import logging
import threading

import libvirt

_log = logging.getLogger("trivium.libvirt")
_lock = threading.Lock()
_thread: threading.Thread | None = None


def run_events() -> None:
    """Have the loop running; before the first connection is opened. Ends with the process."""
    global _thread  # noqa: PLW0603 - libvirt's loop is the process's, so is its thread
    with _lock:
        if _thread is not None:
            return
        # otherwise it writes each error to the process's standard error
        libvirt.registerErrorHandler(lambda _context, _error: None, None)
        libvirt.virEventRegisterDefaultImpl()
        _thread = threading.Thread(target=_run, name="libvirt events", daemon=True)
        _thread.start()


def _run() -> None:
    while True:
        try:
            libvirt.virEventRunDefaultImpl()
        except libvirt.libvirtError as error:
            _log.warning("libvirt's event loop: %s", error)
