"""A guest for tests of real hypervisors: Debian's cloud kernel, busybox, and the guest protocol.

Its agent is a shell script that says what broker/guest_wire.py describes. It shows what it is on
its screen, and it knows two things of a person's doing: a `message` that it was given is written
to its disk, and what lies on its disk is the detail of every state.

The kernel comes from the directory of tools/libvirt.sh; nothing is fetched here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MODULES: Final = ("virtio_pci", "virtio_console", "virtio_blk", "virtio_net", "virtio_balloon")

INIT: Final = r"""#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp /run
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev
exec >/dev/console 2>&1 </dev/null
while read -r module; do insmod "/modules/$module"; done </modules/order
port=
while [ -z "$port" ]; do
    for one in /sys/class/virtio-ports/*; do
        [ "$(cat "$one/name" 2>/dev/null)" = org.trivium.guest.0 ] && port=/dev/${one##*/}
    done
    [ -n "$port" ] || sleep 0.1
done
boot=$(cat /proc/sys/kernel/random/boot_id)
desktop= generation=0
field() { echo "$1" | sed -n "s/.*\"$2\":\"\{0,1\}\([^\",}]*\).*/\1/p"; }
me() { printf '"desktop_id":"%s","generation":%s' "$desktop" "$generation"; }
hello() {
    printf '{"type":"hello","boot_id":"%s","system":"tiny",%s}\n' "$boot" "$(me)" >&3
}
state() {
    [ -b /dev/vda ] && kept=$(dd if=/dev/vda bs=512 skip=8 count=1 2>/dev/null | tr -cd 'a-z0-9-')
    memory=$(free -m | sed -n 's/^Mem: *\([0-9]*\).*/\1/p')
    printf '{"type":"state",%s,"ready":true,"detail":"%s","addresses":["%sM"]}\n' \
        "$(me)" "$kept" "$memory" >&3
}
exec 3<>"$port"
echo "guest is up" >/dev/tty0
hello
while true; do
    if read -r -t 4 line <&3; then
        case $line in
        *'"type":"identify"'*)
            desktop=$(field "$line" desktop_id) generation=$(field "$line" generation)
            echo "$desktop generation $generation" >/dev/tty0
            hello; state ;;
        *'"what":"message"'*)
            text=$(field "$line" text)
            printf '%-64s' "$text" | dd of=/dev/vda bs=512 seek=8 conv=notrunc,fsync 2>/dev/null
            echo "$text" >/dev/tty0
            printf '{"type":"done","id":"%s","ok":true}\n' "$(field "$line" id)" >&3
            state ;;
        *'"what":"policy"'* | *'"what":"lock"'*)
            printf '{"type":"done","id":"%s","ok":true}\n' "$(field "$line" id)" >&3 ;;
        *'"type":"ask"'*)
            printf '{"type":"done","id":"%s","ok":false,"detail":"nobody is logged on"}\n' \
                "$(field "$line" id)" >&3 ;;
        esac
    else
        usleep 200000
        [ -z "$desktop" ] || state
    fi
done
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyGuest:
    """Files of a guest that a hypervisor boots directly."""

    kernel: Path
    initrd: Path


def build(kernel_dir: Path, into: Path) -> TinyGuest:
    """Make the guest's files in `into`, from an unpacked kernel package in `kernel_dir`."""
    if not kernel_dir.is_dir():
        raise FileNotFoundError("there is no kernel for guests: `make libvirt` unpacks one")
    [kernel] = (kernel_dir / "boot").glob("vmlinuz-*")
    version = kernel.name.removeprefix("vmlinuz-")
    tree = into / "initrd.d"
    (tree / "bin").mkdir(parents=True)
    (tree / "modules").mkdir()
    shutil.copy("/bin/busybox", tree / "bin" / "busybox")
    lib = kernel_dir / "lib" / "modules" / version
    names = [f"{path.name}\n" for path in in_order(lib, MODULES)]
    for path in in_order(lib, MODULES):
        shutil.copy(path, tree / "modules" / path.name)
    (tree / "modules" / "order").write_text("".join(names))
    init = tree / "init"
    init.write_text(INIT)
    init.chmod(0o755)
    (tree / "dev").mkdir()
    os.mknod(tree / "dev" / "console", 0o20600, os.makedev(5, 1))
    initrd = archive(tree, into / "initrd")
    copied = into / "kernel"
    shutil.copy(kernel, copied)
    return TinyGuest(kernel=copied, initrd=initrd)


def archive(tree: Path, into: Path) -> Path:
    """All of that folder as the kernel unpacks it at its start, in the file `into`."""
    files = sorted(str(path.relative_to(tree)) for path in tree.rglob("*"))
    packed = subprocess.run(
        ["cpio", "--quiet", "-o", "-H", "newc"],
        cwd=tree, input="\n".join(files).encode(), stdout=subprocess.PIPE, check=True, timeout=60,
    ).stdout  # fmt: skip
    into.write_bytes(packed)
    return into


def in_order(lib: Path, names: tuple[str, ...]) -> list[Path]:
    """The modules with what they need, in the order to load them."""
    needs: dict[str, list[str]] = {}
    for line in (lib / "modules.dep").read_text().splitlines():
        path, _, rest = line.partition(":")
        # depmod lists what a module needs from the nearest to the deepest
        needs[path] = [*reversed(rest.split()), path]
    by_name = {Path(path).name.partition(".")[0].replace("-", "_"): path for path in needs}
    found: dict[str, None] = {}
    for name in names:
        found |= dict.fromkeys(needs[by_name[name]])
    return [lib / path for path in found]
