"""`trivium host check` and `trivium host capabilities`: what a host can do, before and after it is
added."""

from __future__ import annotations

from typing import Any

import click

from broker.cli.output import Output, clean, json_option
from broker.cli.remote import Access, Remote, ask, path_of, remote_options


@click.command()
@click.argument("name")
@remote_options
@json_option
def capabilities(access: Access, name: str) -> None:
    """What a host, by name or id, can and cannot do, each with its reason."""

    async def read(remote: Remote) -> dict[str, Any]:
        found: dict[str, Any] = await remote.get(path_of("hosts", name, "capabilities"))
        return found

    found = ask(access, read)
    output = Output.current()
    if output.as_json:
        output.document(found)
        return
    facts = ((clean(one["name"]), clean(one["is"])) for one in found["facts"])
    output.fields((("host", clean(found["host"]["name"])), *facts))
    rows = [
        (word, clean(one["name"].replace("_", " ")), clean(one["says"]))
        for word, list_ in (("can", "can"), ("cannot", "cannot"))
        for one in found[list_]
    ]
    output.table(("", "what", "why"), rows)


@click.command()
@click.argument("name")
@remote_options
@json_option
def condition(access: Access, name: str) -> None:
    """How a host, by name or id, is at this moment: pressure, page sharing, what is free."""

    async def read(remote: Remote) -> dict[str, Any]:
        found: dict[str, Any] = await remote.get(path_of("hosts", name, "condition"))
        return found

    found = ask(access, read)
    output = Output.current()
    if output.as_json:
        output.document(found)
        return
    fields = [("host", clean(found["host"]["name"]))]
    for one in found["pressure"] or ():
        shares = ", ".join(f"{share:.0%}" for share in one["some"])
        fields.append((f"waiting for {clean(one['resource'])}", f"{shares} of 10, 60, 300 s"))
    if found["memory_mib"] is not None:
        free, total = found["memory_free_mib"], found["memory_mib"]
        fields.append(("memory free", f"{free:,} of {total:,} MiB"))
    if found["disk_total"] is not None:
        free, total = (found[name] // 1024**2 for name in ("disk_free", "disk_total"))
        fields.append(("storage free", f"{free:,} of {total:,} MiB"))
    fields += [
        (f"storage class {clean(one['name'])}", clean(_class(one))) for one in found["storage"]
    ]
    sharing = found["page_sharing"]
    if sharing is not None:
        words = {None: "not told", True: "on", False: "off"}[sharing["on"]]
        fields.append(("page sharing", f"{words}; saves {sharing['saved'] // 1024**2:,} MiB"))
    fields += [
        (clean(what.replace("_", " ")), f"not known: {clean(why)}")
        for what, why in found["unknown"].items()
    ]
    output.fields(fields)


def _class(one: dict[str, Any]) -> str:
    text = f"{one['place']} ({one['kind'] or 'not known'}), cost {one['cost']:g}"
    if one["available"] is not None:
        free, total = (one[name] // 1024**2 for name in ("available", "capacity"))
        text += f", {free:,} of {total:,} MiB free"
    return text + (f"; {one['refuses']}" if one["refuses"] else "")


@click.command()
@click.argument("name")
@click.argument("profile")
@click.option("--engine", default="libvirt", show_default=True, help="Which engine's host it is.")
@remote_options
@json_option
@click.pass_context
def check(context: click.Context, access: Access, name: str, profile: str, engine: str) -> None:
    """Look, step by step, whether a host would do; nothing is added. It ends with status 1 where
    it would not.

    PROFILE is the host's, as in qemu?uri=qemu%2Bssh://trivium@server-7/system
    """

    async def look(remote: Remote) -> dict[str, Any]:
        body = {"name": name, "engine": engine, "profile": profile}
        found: dict[str, Any] = await remote.post("hosts/check", body)
        return found

    found = ask(access, look)
    show_check(found)
    if not found["fits"]:
        context.exit(1)


def show_check(found: dict[str, Any]) -> None:
    """What was found at each step of looking at a host, and what to do about it."""
    output = Output.current()
    if output.as_json:
        output.document(found)
        return
    steps = found["steps"]
    rows = [
        (clean(one["name"].replace("_", "-")), clean(one["verdict"]), clean(one["says"]))
        for one in steps
    ]
    output.table(("step", "", "found"), rows)
    advice = [(clean(one["name"].replace("_", "-")), clean(one["advice"])) for one in steps]
    output.fields([(step, text) for step, text in advice if text])
