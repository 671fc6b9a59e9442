"""Golden images that administrators upload."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from broker.domain import errors
from broker.domain.errors import BadRequestError
from broker.domain.roles import Permission
from broker.ports import IMAGE_FORMATS
from broker.services.image_uploads import ImageUpload
from broker.web.api.shapes import UploadedImageShape
from broker.web.audited import Audited
from broker.web.body import read_upload
from broker.web.call import Call
from broker.web.context import Web
from broker.web.encoding import stamp
from broker.web.params import choice, integer, text
from broker.web.routes import Route

MEDIA_TYPE: Final = "application/octet-stream"
VERSION_MAX: Final = 999_999
BOOT_MIB_MAX: Final = 1024 * 1024
_MIB: Final = 1024 * 1024


class ImagesApi:
    def __init__(self, web_: Web) -> None:
        self._web = web_

    async def upload(self, call: Call) -> web.StreamResponse:
        query = call.query
        for field in ("name", "format"):
            if field not in query:
                raise BadRequestError(f"the parameter {field} is missing", fields={"field": field})
        boot_mib = query.get("boot_mib")
        wanted = ImageUpload(
            name=query["name"],
            format=query["format"],
            version=query.get("version"),
            boot_bytes=boot_mib * _MIB if boot_mib is not None else None,
        )
        call.remarks["image"] = wanted.name
        image, taken = await self._web.services.image_uploads.add(wanted, read_upload(call.request))
        call.remarks |= {"version": image.version, "sha256": taken.sha256}
        shape = UploadedImageShape(
            id=image.id,
            name=image.name,
            version=image.version,
            size_bytes=image.size_bytes,
            boot_bytes=image.boot_bytes,
            virtual_bytes=taken.virtual_bytes,
            sha256=taken.sha256,
            created_at=stamp(image.created_at),
        )
        return call.answer(shape, 201)

    async def remove(self, call: Call) -> web.StreamResponse:
        removed = await self._web.services.image_removal.remove(call.part("id"))
        call.remarks |= {"image": removed.name, "version": removed.version}
        return call.done()

    def routes(self) -> tuple[Route, ...]:
        return (
            Route(
                method="POST",
                path="/api/v1/images",
                audit=Audited(action="image.upload"),
                handler=self.upload,
                need=Permission.MANAGE_POOLS,
                summary="Upload a golden image: the body is the file, which is examined first",
                upload=MEDIA_TYPE,
                query=(
                    text("name", "the image's name: letters, digits, '.', '_' and '-'"),
                    choice("format", IMAGE_FORMATS, "what the file is; it is kept as qcow2"),
                    integer("version", 1, VERSION_MAX, "its version; the next one if not given"),
                    integer(
                        "boot_mib", 0, BOOT_MIB_MAX, "what a streamed boot reads; all if not given"
                    ),
                ),
                answers={201: UploadedImageShape},
                errors=(
                    errors.AlreadyExistsError,
                    errors.BadImageError,
                    errors.BadMediaTypeError,
                    errors.BodyTooLargeError,
                    errors.BusyError,
                ),
            ),
            Route(
                method="DELETE",
                path="/api/v1/images/{id}",
                audit=Audited(action="image.remove"),
                handler=self.remove,
                need=Permission.MANAGE_POOLS,
                summary="Remove a version of an image, by id or name@version, for good",
                answers={204: None},
                errors=(errors.NotFoundError, errors.ImageInUseError),
            ),
        )
