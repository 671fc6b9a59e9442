#!/usr/bin/env bash
# Has libvirt, QEMU and a guest's kernel, for the tests of real machines; installs what is missing.
# libvirt.sh FOLDER: where the kernel is unpacked.
set -euo pipefail

folder=$1
missing=()
for package in qemu-system-x86 qemu-utils libvirt-daemon-system libvirt-clients libvirt-dev gcc \
    pkg-config busybox-static kmod cpio iproute2 libvirt-daemon-driver-lxc libxml2-utils \
    e2fsprogs dnsmasq-base xrdp freerdp2-x11 xvfb virt-viewer tigervnc-viewer xterm \
    tigervnc-standalone-server; do
    if ! dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed; then
        missing+=("$package")
    fi
done
if [[ ${#missing[@]} -gt 0 ]]; then
    tools/apt.sh "${missing[@]}"
fi

if [[ ! -d $folder ]]; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    chmod 0755 "$work"
    kernel=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends:/ {print $2; exit}')
    (cd "$work" && apt-get -qq download "$kernel" 2>/dev/null && dpkg-deb -x "$kernel"_*.deb tree)
    for modules in "$work"/tree/lib/modules/*; do
        depmod -b "$work/tree" "${modules##*/}"
    done
    mv "$work/tree" "$folder"
fi
