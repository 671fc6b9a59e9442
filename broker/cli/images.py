"""`trivium image`: golden images: looked at, examined before they are uploaded, sent, removed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click

from broker.cli.output import Output, clean, json_option
from broker.cli.remote import Access, Remote, ask, path_of, remote_options
from broker.ports import IMAGE_FORMATS

_FILE = click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
_FORMAT = click.option(
    "--format",
    "format_",
    type=click.Choice(IMAGE_FORMATS),
    default="qcow2",
    show_default=True,
    help="What the file is.",
)


@click.group()
def image() -> None:
    """Look at golden images, examine files, upload them, and remove versions."""


@image.command("list")
@remote_options
@json_option
def list_(access: Access) -> None:
    """List every version of every image."""

    async def read(remote: Remote) -> dict[str, Any]:
        return {"items": [one async for one in remote.every("images")], "next": None}

    found = ask(access, read)
    output = Output.current()
    if output.as_json:
        output.document(found)
        return
    output.table(
        ("image", "version", "bytes", "of which a boot reads"),
        [
            (
                clean(one["name"]),
                str(one["version"]),
                f"{one['size_bytes']:,}",
                f"{one['boot_bytes']:,}",
            )
            for one in found["items"]
        ],
        numbers=("version", "bytes", "of which a boot reads"),
    )


@image.command()
@_FILE
@_FORMAT
@json_option
def examine(file: Path, format_: str) -> None:
    """Say whether a broker would take this FILE; nothing is sent."""
    # what examines comes with the broker's libraries; the other commands start without them
    from broker.imaging.examine import ImageFormat  # noqa: PLC0415
    from broker.imaging.examine import examine as look  # noqa: PLC0415

    found = asyncio.run(look(file, ImageFormat(format_)))
    output = Output.current()
    if output.as_json:
        output.document(
            {
                "format": found.format.value,
                "file_bytes": found.file_bytes,
                "virtual_bytes": found.virtual_bytes,
            }
        )
        return
    output.fields(
        (
            ("format", found.format.value),
            ("file", f"{found.file_bytes:,} bytes"),
            ("disk", f"{found.virtual_bytes:,} bytes"),
        )
    )


@image.command()
@_FILE
@_FORMAT
@click.option("--name", required=True, help="The image's name.")
@click.option("--version", type=click.IntRange(1), help="Its version; the next one if not given.")
@click.option("--boot-mib", type=click.IntRange(0), help="What a streamed boot reads of it.")
@remote_options
@json_option
def add(
    access: Access,
    file: Path,
    format_: str,
    name: str,
    version: int | None,
    boot_mib: int | None,
) -> None:
    """Upload FILE as a version of an image; the broker examines it first."""
    query: dict[str, str | int] = {"name": name, "format": format_}
    if version is not None:
        query["version"] = version
    if boot_mib is not None:
        query["boot_mib"] = boot_mib

    async def write(remote: Remote) -> dict[str, Any]:
        found: dict[str, Any] = await remote.upload("images", file, query)
        return found

    found = ask(access, write)
    output = Output.current()
    if output.as_json:
        output.document(found)
        return
    output.fields(
        (
            ("image", f"{clean(found['name'])}@{found['version']}"),
            ("file", f"{found['size_bytes']:,} bytes"),
            ("disk", f"{found['virtual_bytes']:,} bytes"),
            ("SHA-256", clean(found["sha256"])),
            ("id", clean(found["id"])),
        )
    )


@image.command()
@click.argument("version")
@remote_options
@json_option
def remove(access: Access, version: str) -> None:
    """Remove a VERSION from which no pool starts, as name@version or by its id."""

    async def write(remote: Remote) -> None:
        await remote.delete(path_of("images", version))

    ask(access, write)
    output = Output.current()
    if output.as_json:
        output.document({"removed": version})
        return
    output.done(f"{clean(version)} is removed")
