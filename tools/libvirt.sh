#!/usr/bin/env bash
# Has libvirt, QEMU and a guest's kernel, for the tests of real machines; installs what is missing.
# libvirt.sh KERNEL PACKAGES: folders where the kernel is unpacked, and LVM's and NFS's programs.
set -euo pipefail

folder=$1
packages=$2
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

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 0755 "$work"

if [[ ! -d $folder ]]; then
    kernel=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends:/ {print $2; exit}')
    (cd "$work" && apt-get -qq download "$kernel" 2>/dev/null && dpkg-deb -x "$kernel"_*.deb tree)
    for modules in "$work"/tree/lib/modules/*; do
        depmod -b "$work/tree" "${modules##*/}"
    done
    mv "$work/tree" "$folder"
fi

# A machine of the tests' own runs these (tests/support/storage_machine.py). They are unpacked and
# not installed: their services would be started here, and at each boot.
if [[ ! -d $packages ]]; then
    mkdir -p "$work/packages"/usr/{bin,sbin,lib,lib64}
    ln -s usr/{bin,sbin,lib,lib64} "$work/packages"
    mapfile -t missing < <(apt-get -qq -s install --no-install-recommends lvm2 nfs-kernel-server |
        awk '/^Inst/ {print $2}')
    if [[ ${#missing[@]} -gt 0 ]]; then
        (cd "$work" && mkdir debs && cd debs && apt-get -qq download "${missing[@]}" 2>/dev/null)
        for package in "$work"/debs/*.deb; do
            dpkg-deb --fsys-tarfile "$package" |
                tar -x --keep-directory-symlink -C "$work/packages"
        done
    fi
    mv "$work/packages" "$packages"
fi
