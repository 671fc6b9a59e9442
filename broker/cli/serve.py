"""`trivium serve`: one broker in this process, until it is told to stop."""

from __future__ import annotations

import asyncio
import json
import os
import signal

import click

from broker.app import Running
from broker.app import serve as serve_broker
from broker.cli import collector, logs
from broker.cli.output import Output, clean, json_option
from broker.cli.ports import refuse_if_taken
from broker.cli.settings import setting_options
from broker.config import Config, load
from broker.limits import SETUP_S


@click.command()
@setting_options
@json_option
def serve(**flags: str | None) -> None:
    """Run a broker until it is interrupted.

    With --json it prints one line of JSON when it is ready: url, setup_url, address, data, pid.
    """
    config = load(os.environ, flags)
    logs.set_up(config.log_format)
    refuse_if_taken(config.listen)
    asyncio.run(_serve(config, Output.current()))


async def _serve(config: Config, output: Output) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def asked_to_stop(number: signal.Signals) -> None:
        if stop.is_set():
            # Asked twice: whoever asks does not want to wait for requests under way.
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked_to_stop, number)

    def ready(running: Running) -> None:
        collector.calm()
        _tell(running, output)

    await serve_broker(config, stop, ready=ready)
    if not output.as_json:
        output.say("stopped")


def _tell(running: Running, output: Output) -> None:
    config = running.broker.config
    if output.as_json:
        document = {
            "event": "ready",
            "url": running.url,
            "setup_url": running.setup_url,
            "address": str(running.address),
            "ssh_address": str(running.ssh_address) if running.ssh_address else None,
            "data": str(config.data),
            "pid": os.getpid(),
        }
        click.echo(json.dumps(document, ensure_ascii=False))
        return
    output.done("[bold]the broker is ready[/]")
    output.fields(
        (
            ("console", clean(running.url)),
            ("API", clean(f"{running.url}/api/openapi.json")),
            ("support by SSH", clean(running.ssh_address)),
            ("data", clean(config.data)),
            ("first administrator", clean(running.setup_url)),
            ("", f"[dim]works once, for {SETUP_S // 3600} hours[/]" if running.setup_url else ""),
        )
    )
    output.say("[dim]Ctrl-C stops it[/]")
