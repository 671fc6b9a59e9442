#!/usr/bin/env bash
# Prints the golden image of real desktops where they can run, else nothing: real.sh BIN_FOLDER.
# Installs nothing. What is missing is told where QEMU is here, which somebody may want to use.
set -euo pipefail

bin=$1
PATH=$PATH:/usr/sbin:/sbin
command -v qemu-system-x86_64 >/dev/null || exit 0
if ! "$bin/python" -c "import libvirt" 2>/dev/null || ! command -v libvirtd >/dev/null \
    || [[ $(id -u) -ne 0 ]]; then
    echo "QEMU is here: \`make run REAL=1\`, as root, adds a pool of real desktops." >&2
    exit 0
fi
if ! "$bin/python" -m tools.guest.build; then
    echo "The real desktops' image could not be built; going on without them." >&2
fi
