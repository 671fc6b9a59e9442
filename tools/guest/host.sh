#!/usr/bin/env bash
# Has what builds and runs the test guest; installs what is missing.
set -euo pipefail

missing=()
need() { # need PACKAGE FILE…: the package, unless one of its files is there
    local package=$1 file
    shift
    for file in "$@"; do
        if [[ -e $file ]] || PATH=$PATH:/usr/sbin:/sbin command -v "$file" >/dev/null; then
            return
        fi
    done
    missing+=("$package")
}
need cpio cpio
need dpkg dpkg-deb
need e2fsprogs mke2fs
need fakeroot fakeroot
need fdisk sfdisk
need kmod depmod
need mtools mcopy
need qemu-system-x86 qemu-system-x86_64
need qemu-utils qemu-img
need syslinux syslinux
need syslinux-common /usr/lib/syslinux/mbr/mbr.bin /usr/lib/SYSLINUX/mbr.bin
if [[ ${#missing[@]} -gt 0 ]]; then
    tools/apt.sh "${missing[@]}"
fi
