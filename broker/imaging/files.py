"""Uploaded golden images on this broker's disk: received, examined, kept.

    DATA/images/NAME-vVERSION.qcow2     what was taken
    DATA/images/incoming/ID/image       what is being received, each in a folder of its own

No path is made of what a person sent but for a checked name. What an interrupted upload left is
removed at the next start.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from broker.domain.errors import BadImageError, BodyTooLargeError, UnavailableError
from broker.imaging.examine import ImageFormat, QemuImgError, examine, qemu_img, told
from broker.limits import (
    IMAGE_BYTES_MAX,
    IMAGE_FREE_BYTES_MIN,
    QEMU_IMG_CONVERT_S,
    UPLOAD_CHUNK_BYTES,
)
from broker.ports import Ids, TakenImage

_FILE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_ENDING_BYTES: Final = 16 * 1024 * 1024
"""short of its limit at which a conversion may be ended by it: qemu-img writes eight pieces of
2 MiB at once"""
_FULL: Final = "the data directory's disk is too full for the image"


class ImageFiles:
    """The ImageStore port over a folder, which is made when the first image comes."""

    def __init__(self, folder: Path, ids: Ids, *, bytes_max: int = IMAGE_BYTES_MAX) -> None:
        self._folder = folder
        self._incoming = folder / "incoming"
        self._ids = ids
        self._bytes_max = bytes_max
        self._converts = asyncio.Lock()  # two at once would share one disk's room
        self._promised: tuple[Path, int] | None = None

    def clear(self) -> None:
        """Remove what interrupted uploads left. For one process at its start."""
        shutil.rmtree(self._incoming, ignore_errors=True)

    async def take(
        self, chunks: AsyncIterator[bytes], *, name: str, version: int, format_name: str
    ) -> TakenImage:
        """See the port."""
        if not _FILE.fullmatch(name):
            text = "its name is not of 1 to 100 letters, digits, '.', '_', '-', the first no mark"
            raise BadImageError(text, advice="Give it another name; the file is not to blame.")
        format_ = ImageFormat(format_name)
        place, kept = self._incoming / self._ids.new("upl"), False
        try:
            await asyncio.to_thread(place.mkdir, mode=0o700, parents=True)
            file = place / "image"
            digest = await self._receive(chunks, file)
            examined = await examine(file, format_)
            if format_ is not ImageFormat.QCOW2:
                file = await self._converted(file, format_, examined.virtual_bytes)
                examined = await examine(file, ImageFormat.QCOW2)
            await self._kept(file, name, version)
            kept = True
        except ConnectionError:
            raise  # whoever sent it has gone
        except OSError as error:
            raise UnavailableError(f"the image cannot be kept: {error.strerror}") from error
        finally:
            try:
                await asyncio.to_thread(shutil.rmtree, place, ignore_errors=True)
            except BaseException:
                # who leaves now has no image: a file would be in that version's way for ever
                if kept:
                    await asyncio.shield(self.forget(name, version))
                raise
        return TakenImage(
            file_bytes=examined.file_bytes,
            virtual_bytes=examined.virtual_bytes,
            sha256=digest,
        )

    async def forget(self, name: str, version: int) -> None:
        """See the port."""
        if _FILE.fullmatch(name):
            await asyncio.to_thread(self._path(name, version).unlink, missing_ok=True)

    async def versions(self, name: str) -> frozenset[int]:
        """Of that image, whose files are here."""
        pattern = re.compile(rf"{re.escape(name)}-v([0-9]{{1,9}})\.qcow2")

        def work() -> frozenset[int]:
            found = (pattern.fullmatch(path.name) for path in self._folder.glob("*.qcow2"))
            return frozenset(int(one[1]) for one in found if one)

        return await asyncio.to_thread(work)

    async def _kept(self, file: Path, name: str, version: int) -> None:
        """`_keep`, whose thread goes on when its caller leaves: nothing stays of it then."""
        loop = asyncio.get_running_loop()
        keeping = loop.run_in_executor(None, self._keep, file, name, version)
        try:
            await asyncio.shield(keeping)
        except asyncio.CancelledError:
            await asyncio.wait([keeping])
            if keeping.exception() is None:
                await asyncio.shield(self.forget(name, version))
            raise

    def _path(self, name: str, version: int) -> Path:
        return self._folder / f"{name}-v{version}.qcow2"

    def _keep(self, file: Path, name: str, version: int) -> None:
        """The finished file in its place, on the disk for good; never over another."""
        with file.open("rb+") as opened:
            os.fsync(opened.fileno())
        file.chmod(0o640)
        target = self._path(name, version)
        try:
            os.link(file, target)
        except FileExistsError:
            text = f"a file of {name} version {version} is here already"
            raise BadImageError(text, advice="Upload it as another version.") from None
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    async def _converted(self, file: Path, format_: ImageFormat, virtual_bytes: int) -> Path:
        """The same disk as a qcow2 beside it. Raises BadImageError, UnavailableError."""
        target = file.with_name("converted")
        words = ("convert", "-f", format_.value, "-O", "qcow2", told(file), told(target))
        seconds = QEMU_IMG_CONVERT_S
        # qcow2's own tables take less than a sixteenth beside the disk itself
        most = min(IMAGE_BYTES_MAX, virtual_bytes + virtual_bytes // 16 + UPLOAD_CHUNK_BYTES)
        async with self._converts:
            room = shutil.disk_usage(file.parent).free - IMAGE_FREE_BYTES_MIN
            if room <= 0:
                raise UnavailableError(_FULL)
            self._promised = (target, min(most, room))
            try:
                await qemu_img(
                    words, seconds=seconds, cpu_s=int(seconds), file_bytes=min(most, room)
                )
            except QemuImgError:
                if room < most and _bytes_of(target) > room - _ENDING_BYTES:
                    raise UnavailableError(_FULL) from None
                raise BadImageError("it cannot be turned into qcow2") from None
            finally:
                self._promised = None
        return target

    def _room(self, folder: Path) -> int:
        """Bytes that an upload may still take, beside those that a conversion was promised."""
        room = shutil.disk_usage(folder).free - IMAGE_FREE_BYTES_MIN
        promised = self._promised
        if promised is not None:
            target, most = promised
            room -= max(0, most - _bytes_of(target))
        return room

    async def _receive(self, chunks: AsyncIterator[bytes], file: Path) -> str:
        """Write what comes; answers its SHA-256, hex. Raises BodyTooLargeError."""
        digest, room = hashlib.sha256(), self._bytes_max
        with file.open("xb") as out:

            def write(data: bytes) -> None:
                if self._room(file.parent) < len(data):
                    raise UnavailableError(_FULL)
                digest.update(data)
                out.write(data)

            waiting = bytearray()
            async for chunk in chunks:
                room -= len(chunk)
                if room < 0:
                    raise BodyTooLargeError(f"an image has at most {self._bytes_max} bytes")
                waiting += chunk
                if len(waiting) >= UPLOAD_CHUNK_BYTES:
                    await asyncio.to_thread(write, bytes(waiting))
                    waiting.clear()
            await asyncio.to_thread(write, bytes(waiting))
        return digest.hexdigest()


def _bytes_of(file: Path) -> int:
    """Its length; none while it is not there."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0
