#!/usr/bin/env bash
# Has qemu-img, which examines uploaded images; installs what is missing.
set -euo pipefail

if ! command -v qemu-img >/dev/null; then
    tools/apt.sh qemu-utils
fi
