#!/usr/bin/env bash
# Installs Debian packages: apt.sh NAME… Fails, saying so, where there is no apt or no right to use it.
set -euo pipefail

if ! command -v apt-get >/dev/null; then
    echo "This machine has no apt; please install by hand: $*" >&2
    exit 1
fi
as_root=()
if [[ $(id -u) -ne 0 ]]; then
    if ! command -v sudo >/dev/null || ! sudo -n true 2>/dev/null; then
        echo "Please install as root: apt-get install $*" >&2
        exit 1
    fi
    as_root=(sudo -n env)
fi
export DEBIAN_FRONTEND=noninteractive
echo "Installing $* …"
"${as_root[@]}" apt-get -qq -o DPkg::Lock::Timeout=300 update
"${as_root[@]}" apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 install -y \
    --no-install-recommends "$@" </dev/null >/dev/null
