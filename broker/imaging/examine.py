"""Looks at a disk image that somebody uploaded before anything else opens it.

Such a file is hostile: its header may name other files of this machine (a backing file, an
external data file, extents), describe a disk of exabytes, or pretend to be another format. First
its header is read in this process (oslo.utils, what OpenStack's Glance and Nova use), which opens
nothing else. What passes is described by `qemu-img info` in the format that was declared, without
a shell or an environment, and with limits on its memory, its processor time and its time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from oslo_utils.imageutils.format_inspector import (
    FileInspector,
    ImageFormatError,
    InspectWrapper,
    SafetyCheckFailed,
)

from broker.domain.errors import BadImageError, UnavailableError
from broker.limits import (
    IMAGE_RATIO_MAX,
    IMAGE_VIRTUAL_BYTES_MAX,
    QEMU_IMG_ANSWER_BYTES_MAX,
    QEMU_IMG_MEMORY_BYTES,
    QEMU_IMG_S,
    UPLOAD_CHUNK_BYTES,
)

SECTOR_BYTES: Final = 512
_PROGRAMS: Final = "/usr/local/bin:/usr/bin:/bin"
_VMDK_MAGIC: Final = b"KDMV"
"""a sparse extent; other files of VMDK are lists of other files"""
_READ_AS: Final = {"qcow2": {"qcow2"}, "raw": {"raw", "gpt"}, "vmdk": {"vmdk"}}
"""declared format -> what its content may be found to be"""
_SAID: Final = {
    "backing_file": "it has a backing file",
    "data_file": "its data lie in another file",
    "unknown_features": "it uses features of qcow2 that are not known",
    "descriptor": "its descriptor is of a kind that is not taken, or names other files",
    "footer": "its header and its footer say different things",
    "mbr": "its partition table is not a plain one",
}
"""check of oslo.utils -> the end of a sentence"""


_SMALLER: Final = (
    "Make its disk smaller: first the file systems within, then the disk "
    "(qemu-img resize --shrink), or build the image on a smaller one."
)

# what it finds stands in the refusal; a command would print its log as well
logging.getLogger("oslo_utils.imageutils").setLevel(logging.CRITICAL)


class ImageFormat(StrEnum):
    """Formats that are taken: others are converted first, by whoever has them."""

    QCOW2 = "qcow2"
    RAW = "raw"
    VMDK = "vmdk"


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """`virtual_bytes`: the disk that the file describes. `file_bytes`: the file's length."""

    format: ImageFormat
    virtual_bytes: int
    file_bytes: int


async def examine(path: Path, format_: ImageFormat) -> Examined:
    """What the file is, where it may be used as a golden image.

    Raises:
        BadImageError: saying why it may not.
        UnavailableError: qemu-img is missing, or did not answer within its limits.
    """
    file_bytes = await asyncio.to_thread(_check_header, path, format_)
    info = await _described(path, format_)
    _check_description(info, format_)
    virtual = info["virtual-size"]
    if virtual > IMAGE_VIRTUAL_BYTES_MAX:
        text = f"its disk has {virtual} bytes; at most {IMAGE_VIRTUAL_BYTES_MAX} are taken"
        raise BadImageError(text, advice=_SMALLER)
    if virtual > IMAGE_RATIO_MAX * file_bytes:
        text = f"its {file_bytes} bytes describe a disk of {virtual}"
        raise BadImageError(f"{text}, more than {IMAGE_RATIO_MAX} times as large", advice=_SMALLER)
    return Examined(format=format_, virtual_bytes=virtual, file_bytes=file_bytes)


# ------------------------------------------------------------------------ in this process


def _check_header(path: Path, format_: ImageFormat) -> int:
    """The file's length. Raises BadImageError."""
    with path.open("rb") as file:
        length = os.fstat(file.fileno()).st_size
        if length == 0:
            raise BadImageError("it is empty", advice="Choose the file that the disk is in.")
        if format_ is ImageFormat.RAW and length % SECTOR_BYTES:
            raise _bad(f"a raw disk is a whole number of sectors of {SECTOR_BYTES} bytes")
        if format_ is ImageFormat.VMDK and file.read(len(_VMDK_MAGIC)) != _VMDK_MAGIC:
            raise _bad("it is not a VMDK that holds its own data")
        file.seek(0)
        found = _found(InspectWrapper(file))
    if str(found) not in _READ_AS[format_]:
        raise _bad(f"it was declared as {format_}, and is {found}")
    try:
        found.safety_check()
    except SafetyCheckFailed as error:
        raise _bad(
            "; ".join(_SAID.get(name, "it is not safe") for name in error.failures)
        ) from None
    except (ImageFormatError, ArithmeticError, LookupError, ValueError):
        raise _bad("its header cannot be read") from None
    return length


def _found(content: InspectWrapper) -> FileInspector:
    """The one format that the content has. Raises BadImageError."""
    try:
        while content.format is None and content.read(UPLOAD_CHUNK_BYTES):
            pass
        content.close()
        found = content.format
    except ImageFormatError:
        raise _bad("it looks like several formats at once") from None
    if found is None:
        raise _bad("its format cannot be told")
    return found


def _bad(text: str) -> BadImageError:
    return BadImageError(text)


# ------------------------------------------------------------------------- with qemu-img


async def _described(path: Path, format_: ImageFormat) -> dict[str, Any]:
    words = ("info", "--output=json", "-f", format_.value, told(path))
    try:
        answer = await qemu_img(words, seconds=QEMU_IMG_S, cpu_s=int(QEMU_IMG_S / 2), file_bytes=0)
    except QemuImgError:
        raise _bad(f"qemu-img cannot read it as {format_}") from None
    try:
        info = json.loads(answer)
    except ValueError:
        raise UnavailableError("qemu-img answered something that is no description") from None
    if not isinstance(info, dict) or not isinstance(info.get("virtual-size"), int):
        raise UnavailableError("qemu-img answered something that is no description")
    return info


def _check_description(info: dict[str, Any], format_: ImageFormat) -> None:
    """Raises BadImageError."""
    specific = info.get("format-specific") or {}
    data = specific.get("data") or {}
    problems = (
        (info.get("format") != format_, f"qemu-img does not take it for {format_}"),
        (bool({"backing-filename", "full-backing-filename"} & info.keys()), _SAID["backing_file"]),
        ("data-file" in data or "data-file-raw" in data, _SAID["data_file"]),
        (bool(info.get("encrypted")) or "encrypt" in data, "it is encrypted"),
        (bool(info.get("snapshots")), "it has snapshots within"),
        (bool(data.get("corrupt")) or bool(info.get("dirty-flag")), "it is damaged"),
        (len(data.get("extents") or ()) > 1, "it is made of several files"),
    )
    for is_so, text in problems:
        if is_so:
            raise _bad(text)


def told(path: Path) -> str:
    """The path as qemu-img takes it: one that begins with "/" names a file and no protocol."""
    return str(path.absolute())


class QemuImgError(Exception):
    """qemu-img ended with an error, or was ended by its limits."""


async def qemu_img(words: Sequence[str], *, seconds: float, cpu_s: int, file_bytes: int) -> bytes:
    """What `qemu-img words…` prints; `file_bytes`: the longest file that it may write.

    Raises:
        QemuImgError: it failed. UnavailableError: it is missing, or took too long or too much.
    """
    program, limiter = (shutil.which(name, path=_PROGRAMS) for name in ("qemu-img", "prlimit"))
    if program is None or limiter is None:
        raise UnavailableError("qemu-img is not installed at the broker (Debian: qemu-utils)")
    process = await asyncio.create_subprocess_exec(
        limiter,
        f"--as={QEMU_IMG_MEMORY_BYTES}",
        f"--cpu={cpu_s}",
        f"--fsize={file_bytes}",
        "--core=0",
        program,
        *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        cwd="/",
        env={},
    )
    try:
        async with asyncio.timeout(seconds):
            answer = await _read(process)
            code = await process.wait()
    except TimeoutError:
        raise UnavailableError("qemu-img did not answer in time") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if code != 0:
        raise QemuImgError
    return answer


async def _read(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None  # noqa: S101 - a pipe was asked for
    found = bytearray()
    while piece := await process.stdout.read(UPLOAD_CHUNK_BYTES):
        found += piece
        if len(found) > QEMU_IMG_ANSWER_BYTES_MAX:
            raise UnavailableError("qemu-img says too much about it")
    return bytes(found)
