"""`trivium import`: a roster from CSV files, whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from broker.cli.errors import CommandError
from broker.cli.output import Output, clean, json_option
from broker.cli.remote import Access, Remote, ask, remote_options
from broker.domain.errors import RosterError
from broker.domain.roster import FILES, Problems, decode_file, read_roster
from broker.limits import ROSTER_BYTES_MAX


def roster_files(paths: tuple[Path, ...]) -> dict[str, Path]:
    """File name -> path, from folders and single files.

    Raises:
        CommandError: a file is named twice, is not a roster's, or there is none.
    """
    found: dict[str, Path] = {}
    for path in paths:
        inside = [path / file for file in FILES if (path / file).is_file()]
        for file in inside if path.is_dir() else [path]:
            if file.name not in FILES:
                raise click.BadParameter(f"{file} is none of {', '.join(FILES)}")
            if file.name in found:
                raise click.BadParameter(f"{found[file.name]} and {file} are the same file twice")
            found[file.name] = file
    if not found:
        raise CommandError(
            "There is no roster here",
            detail=f"none of {', '.join(FILES)} is in {', '.join(str(path) for path in paths)}",
            code="cli.no_roster",
        )
    return found


def roster_texts(files: Mapping[str, Path]) -> dict[str, str]:
    """File name -> text.

    Raises:
        CommandError: a file cannot be read, is not UTF-8, or they are too large together.
    """
    problems = Problems()
    texts: dict[str, str] = {}
    total = 0
    for name, path in files.items():
        try:
            with path.open("rb") as file:
                data = file.read(ROSTER_BYTES_MAX + 1)
        except OSError as error:
            raise CommandError(f"{path} cannot be read", detail=error.strerror or "") from error
        total += len(data)
        if total > ROSTER_BYTES_MAX:
            raise CommandError(
                "The roster is too large",
                detail=f"it has more than {ROSTER_BYTES_MAX // 2**20} MiB",
                advice="Import it in parts.",
                code="cli.roster_too_large",
            )
        texts[name] = decode_file(name, data, problems)
    if len(problems):
        # What can be read is checked too, so that everything is named at once.
        unread = {problem.file for problem in problems.listed}
        read_roster({name: text for name, text in texts.items() if name not in unread}, problems)
        raise CommandError(
            RosterError.title,
            advice=RosterError.advice,
            code=RosterError.code,
            fields={
                "problems": [problem.as_fields() for problem in problems.listed],
                "more": problems.more,
            },
        )
    return texts


@click.command("import")
@click.argument(
    "paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path), metavar="PATH…"
)
@click.option("--check", is_flag=True, help="Look for problems and change nothing.")
@remote_options
@json_option
def import_(access: Access, paths: tuple[Path, ...], *, check: bool) -> None:
    """Import a roster: a folder of CSV files, or single ones (users.csv, pools.csv …).

    Either everything is taken or nothing: every bad line is named, with the reason.
    docs/roster.md describes the columns.
    """
    texts = roster_texts(roster_files(paths))

    async def send(remote: Remote) -> dict[str, Any]:
        return await import_texts(remote, texts, check_only=check)

    answer = ask(access, send)
    output = Output.current()
    if output.as_json:
        output.document(answer)
        return
    show_counts(answer["counts"])
    output.done("nothing was changed; the roster is good" if check else "imported")


async def import_texts(
    remote: Remote, texts: Mapping[str, str], *, check_only: bool
) -> dict[str, Any]:
    """Send a roster. The answer has `counts`."""
    body = {"files": dict(texts), "check_only": check_only}
    answer: dict[str, Any] = await remote.post("imports", body)
    return answer


def show_counts(counts: Mapping[str, Mapping[str, int]]) -> None:
    named = [(kind, count) for kind, count in counts.items() if any(count.values())]
    Output.current().table(
        ("", "new", "changed", "same"),
        [
            (clean(kind), *(f"{count.get(name, 0):,}" for name in ("new", "changed", "same")))
            for kind, count in named
        ],
        numbers=("new", "changed", "same"),
    )
