"""Runs a command that ends when its parent does: `python leash.py PARENT_PID COMMAND…`.

Run by path, with the standard library alone. The kernel sends the command SIGTERM when the
process PARENT_PID is gone, even if that one was killed and could tell nobody.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
"""from linux/prctl.h"""


def main() -> None:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM))
    if os.getppid() != parent:
        # It went before the kernel was asked.
        sys.exit(128 + signal.SIGTERM)
    os.execv(command[0], command)  # noqa: S606 - the caller's own command, no shell


if __name__ == "__main__":
    main()
