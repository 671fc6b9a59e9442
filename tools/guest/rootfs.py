"""The guest's files: unpacked packages, the kernel's modules, the agent, and what starts them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from tools.guest import agent

HERE: Final = Path(__file__).resolve().parent
PROJECT: Final = HERE.parent.parent
BOOT_MODULES: Final = (
    "ahci", "ata_piix", "crc32c_generic", "ext4", "sd_mod", "virtio_blk", "virtio_pci",
    "virtio_scsi",
)  # fmt: skip
"""what it takes to reach the root file system"""
MODULES: Final = (
    "af_packet", "bochs", "button", "cirrus", "e1000", "e1000e", "ehci_pci", "evdev",
    "hid_generic", "i2c_piix4", "ipv6", "overlay", "psmouse", "qxl", "uhci_hcd", "usbhid",
    "virtio_balloon", "virtio_console", "virtio_gpu", "virtio_input", "virtio_net", "virtio_rng",
    "xhci_pci",
)  # fmt: skip
"""what else the machines of QEMU and libvirt show a guest"""
_NOT_UNPACKED: Final = (
    "./usr/share/doc", "./usr/share/man", "./usr/share/info", "./usr/share/locale",
    "./usr/share/lintian", "./usr/share/bug", "./usr/share/fonts/X11/misc/[!1]*",
    "./usr/lib/python3*/test", "./usr/lib/python3*/lib2to3", "./usr/lib/python3*/idlelib",
    "./usr/lib/python3*/ensurepip", "./usr/lib/python3*/pydoc_data", "./usr/lib/python3*/distutils",
    "./usr/lib/python3*/asyncio", "./usr/lib/python3*/unittest", "./usr/lib/python3*/email",
    "./usr/lib/python3*/xml*", "./usr/lib/python3*/tkinter", "./usr/lib/python3*/multiprocessing",
    "./usr/lib/python3*/http", "./usr/lib/python3*/wsgiref", "./usr/lib/python3*/sqlite3",
    "./usr/lib/python3*/dbm", "./usr/lib/python3*/curses", "./usr/lib/python3*/concurrent",
    "./usr/share/icons", "./usr/share/pixmaps", "./var/cache",
)  # fmt: skip
_FONTS: Final = ("10x20", "6x13", "9x15")
_MERGED: Final = ("bin", "lib", "lib64", "sbin")
"""folders that are links into /usr; packages of older releases still bring files under both"""


class GuestError(Exception):
    """The guest cannot be built here; the text says what is missing."""


def with_sbin(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment, with the folders of tools that some have in their PATH only as root."""
    return {**environment, "PATH": f"{environment['PATH']}:/usr/sbin:/sbin"}


def run(arguments: Sequence[str | Path], **more: object) -> str:
    """A tool's output; GuestError with its last words when it fails or is not there."""
    more["env"] = with_sbin(more.get("env", os.environ))  # type: ignore[arg-type]
    try:
        done = subprocess.run(  # noqa: S603 -- fixed programs and files of this project
            [str(each) for each in arguments],
            capture_output=True, text=True, check=False, **more,  # type: ignore[call-overload]
        )  # fmt: skip
    except FileNotFoundError:
        raise GuestError(
            f"{arguments[0]} is not installed; `make guest` installs what the build needs"
        ) from None
    if done.returncode != 0:
        raise GuestError(f"{arguments[0]} says: {done.stderr.strip()[-800:]}")
    return str(done.stdout)


def unpack(packages: Iterable[Path], root: Path, only: Sequence[str] = ()) -> None:
    """Lay the packages' files over each other, without what nobody reads in a test guest."""
    for folder in _MERGED:
        (root / "usr" / folder).mkdir(parents=True, exist_ok=True)
        if not (root / folder).is_symlink():
            (root / folder).symlink_to(f"usr/{folder}")
    left_out = [f"--exclude={pattern}" for pattern in _NOT_UNPACKED]
    for package in packages:
        with subprocess.Popen(  # noqa: S603 -- as above
            ["dpkg-deb", "--fsys-tarfile", str(package)],  # noqa: S607 -- found by PATH
            stdout=subprocess.PIPE,
        ) as tar:
            run(
                ["tar", "-x", "-C", root, "--keep-directory-symlink", "--no-same-owner",
                 "--wildcards", *left_out, *only],
                stdin=tar.stdout,
            )  # fmt: skip


def _closure(modules: Path, names: Iterable[str]) -> list[str]:
    """The files of these modules and of all they need, below `modules`."""
    files = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, needed = line.partition(":")
        files[Path(path).name.split(".")[0].replace("-", "_")] = [path, *needed.split()]
    built_in = {
        Path(line).name.split(".")[0].replace("-", "_")
        for line in (modules / "modules.builtin").read_text().splitlines()
    }
    found: set[str] = set()
    for name in names:
        if name in files:
            found.update(files[name])
        elif name not in built_in:
            raise GuestError(f"the kernel has no module {name}")
    return sorted(found)


def kernel(package: Path, work: Path) -> tuple[Path, Path, str]:
    """Unpack a kernel's package: its image, the folder of its modules, its version."""
    tree = work / "kernel"
    tree.mkdir()
    unpack([package], tree)
    version = next(each.name for each in (tree / "lib" / "modules").iterdir())
    run(["depmod", "-b", tree, version])
    return tree / "boot" / f"vmlinuz-{version}", tree / "lib" / "modules" / version, version


def install_modules(source: Path, root: Path, version: str, names: Iterable[str]) -> None:
    """Copy these modules with all they need, and index them."""
    target = root / "lib" / "modules" / version
    for path in _closure(source, names):
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / path, target / path)
    for index in ("modules.order", "modules.builtin", "modules.builtin.modinfo"):
        shutil.copyfile(source / index, target / index)
    run(["depmod", "-b", root, version])


def initramfs(busybox: Path, modules: Path, version: str, work: Path) -> Path:
    """The first files that the kernel sees, as one archive, the same for the same input."""
    tree = work / "initramfs"
    for folder in ("bin", "sbin", "usr", "lib"):
        (tree / folder).mkdir(parents=True, exist_ok=True)
    shutil.copy(busybox, tree / "bin" / "busybox")
    shutil.copy(HERE / "initramfs" / "init", tree / "init")
    install_modules(modules, tree, version, BOOT_MODULES)
    names = sorted(str(each.relative_to(tree)) for each in tree.rglob("*"))
    for each in (tree, *tree.rglob("*")):
        os.utime(each, (0, 0), follow_symlinks=False)
    archive = work / "initrd"
    with archive.open("wb") as out:
        subprocess.run(
            ["cpio", "-0", "-o", "-H", "newc", "-R", "0:0", "--reproducible", "--quiet"],  # noqa: S607
            input="\0".join(names).encode(), stdout=out, cwd=tree, check=True,
        )  # fmt: skip
    return archive


def install_agent(root: Path) -> None:
    """The agent as any guest gets it: its folder, run by the guest's own Python."""
    agent.lay_out(root / "usr" / "lib" / "trivium" / "agent")


def lay_out(files: Path, root: Path) -> None:
    """Put the project's own files over the packages', and a link for each command of busybox that
    no package brings."""
    shutil.copytree(files, root, dirs_exist_ok=True)
    busybox = root / "bin" / "busybox"
    for name in run([busybox, "--list"]).split():
        applet = root / "bin" / name
        if not (applet.exists() or (root / "sbin" / name).exists()):
            applet.symlink_to("busybox")
    if not (root / "var" / "run").is_symlink():
        (root / "var" / "run").symlink_to("/run")


def only_fonts(root: Path, wanted: Sequence[str]) -> None:
    """Keep these of X's fonts, and index them."""
    fonts = root / "usr" / "share" / "fonts" / "X11" / "misc"
    for file in fonts.iterdir():
        if file.name.split(".")[0] not in wanted:
            file.unlink()
    index = sorted(f"{each.name} {each.name.split('.')[0]}" for each in fonts.glob("*.pcf.gz"))
    (fonts / "fonts.dir").write_text("\n".join([str(len(index)), *index]) + "\n")


def fill(root: Path, packages: Sequence[Path], modules: Path, version: str) -> None:
    """The whole root file system."""
    unpack(packages, root)
    for folder in ("dev", "proc", "sys", "run", "tmp", "root", "home", "var/lib", "var/log"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    lay_out(HERE / "files", root)
    (root / "sbin" / "init").symlink_to("/bin/busybox")
    only_fonts(root, _FONTS)
    install_modules(modules, root, version, (*BOOT_MODULES, *MODULES))
    install_agent(root)
    compile_python(root)


def compile_python(root: Path) -> None:
    """Compile Python's library with the guest's own Python: a guest that did it itself would
    take seconds, at each boot of each overlay."""
    python = next(iter(sorted((root / "usr" / "bin").glob("python3.*[0-9]"))))
    (root / "usr" / "bin" / "python3").unlink(missing_ok=True)
    (root / "usr" / "bin" / "python3").symlink_to(python.name)
    libraries = [*(root / "usr" / "lib").glob("*-linux-gnu"), *(root / "lib").glob("*-linux-gnu")]
    loader = next(iter((root / "lib64").glob("ld-linux*.so.2")))
    run(
        [loader, "--library-path", ":".join(map(str, libraries)), python, "-S", "-E", "-m",
         "compileall", "-q", "--invalidation-mode", "unchecked-hash", "-s", root, "-p", "/",
         root / "usr" / "lib" / python.name, root / "usr" / "lib" / "trivium"],
        env={"PYTHONHOME": str(root / "usr"), "PATH": os.environ["PATH"]},
    )  # fmt: skip
