"""Disk images for tests, by qemu-img and by hand."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

MIB = 1024 * 1024
_COARSE = b"Unable to get accurate CPU usage"
_TRIES = 100
"""of a disk with a key: to choose the key's cost qemu-img times itself by the processor's clock,
and gives up where that is too coarse, on some machines more often than not"""


def qemu_img(*words: str) -> None:
    said = _COARSE
    for _ in range(_TRIES):
        if _COARSE not in said:
            break
        ended = subprocess.run(("qemu-img", *words), check=False, capture_output=True)
        if ended.returncode == 0:
            return
        said = ended.stderr
    raise AssertionError(f"qemu-img {words}: {said!r}")


def made(path: Path, format_: str = "qcow2", size: str = "8M", options: str = "") -> Path:
    """A new disk of that format with something on it."""
    raw = path.with_name(path.name + ".content")
    with raw.open("wb") as file:
        file.write(b"a disk's content".ljust(64 * 1024, b"."))
        file.truncate(_bytes(size))
    words = ("-o", options) if options else ()
    qemu_img("convert", "-f", "raw", "-O", format_, *words, str(raw), str(path))
    raw.unlink()
    return path


def _bytes(size: str) -> int:
    return int(size[:-1]) * {"K": 1024, "M": MIB, "G": 1024 * MIB}[size[-1]]


def patched(path: Path, offset: int, data: bytes) -> Path:
    """The file with these bytes there instead."""
    with path.open("rb+") as file:
        file.seek(offset)
        file.write(data)
    return path


def with_size(path: Path, virtual_bytes: int) -> Path:
    """A qcow2 whose header claims a disk of that many bytes."""
    return patched(path, 24, struct.pack(">Q", virtual_bytes))


def with_backing(path: Path, name: bytes) -> Path:
    """A qcow2 whose header names a backing file, which qemu-img was not asked about."""
    patched(path, 8, struct.pack(">QI", 512, len(name)))
    return patched(path, 512, name)


def with_features(path: Path, bits: int) -> Path:
    """A qcow2 with these incompatible features on."""
    return patched(path, 72, struct.pack(">Q", bits))


def vmdk_descriptor(extent: str, kind: str = "monolithicFlat") -> bytes:
    """A VMDK that is text and names where its data lie."""
    return (
        (
            "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\n"
            f'createType="{kind}"\n\nRW 16384 FLAT "{extent}" 0\n'
        )
        .encode()
        .ljust(1024, b"\n")
    )
