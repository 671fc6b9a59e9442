"""Settings as flags of a command, and `trivium check-config`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import click

from broker.cli.errors import CommandError
from broker.cli.output import Output, clean, json_option
from broker.config import SETTINGS, Setting, gather, hide_password, problems
from broker.domain.errors import ConfigError


def setting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds a flag for every setting; the command gets them as keyword arguments, None if unset."""
    for setting in reversed(SETTINGS):
        default = f"; {setting.default}" if setting.default else ""
        command = click.option(
            f"--{setting.name.replace('_', '-')}",
            metavar="TEXT",
            help=f"{setting.says} ({setting.env}{default})",
        )(command)
    return command


def shown(setting: Setting, text: str) -> str:
    """The value with passwords as ***."""
    if not setting.secret:
        return text
    parts = urlsplit(hide_password(text))
    query = urlencode([(name, "***") for name, _ in parse_qsl(parts.query)], safe="*")
    return urlunsplit(parts._replace(query=query))


@click.command("check-config")
@setting_options
@json_option
def check_config(**flags: str | None) -> None:
    """Show every setting, its value, where it comes from, and what is wrong with it.

    A flag goes before the environment, the environment before the default. Exit code 1 when
    something is wrong.
    """
    found = problems(os.environ, flags)
    texts, origins = _gathered(flags)
    output = Output.current()
    if output.as_json:
        output.document(
            {
                "settings": [
                    {
                        "name": setting.name,
                        "env": setting.env,
                        "value": shown(setting, texts[setting.name]),
                        "origin": origins[setting.name],
                    }
                    for setting in SETTINGS
                ],
                "problems": found,
            }
        )
    else:
        output.table(
            ("setting", "value", "from", "variable", "what it is"),
            [
                (
                    setting.name,
                    clean(shown(setting, texts[setting.name])) or "[dim]–[/]",
                    _origin(origins[setting.name]),
                    f"[dim]{setting.env}[/]",
                    clean(setting.says),
                )
                for setting in SETTINGS
            ],
        )
    if found:
        raise CommandError(
            ConfigError.title, detail="; ".join(found), code=ConfigError.code, advice=_ADVICE
        )
    if not output.as_json:
        output.done("the configuration is valid")


_ADVICE = "Correct what is named above; docs/settings.md describes every setting."


def _gathered(flags: Mapping[str, str | None]) -> tuple[dict[str, str], dict[str, str]]:
    """As config.gather, but a variable that is no setting does not hide the others."""
    known = {setting.env for setting in SETTINGS}
    return gather({name: value for name, value in os.environ.items() if name in known}, flags)


def _origin(origin: str) -> str:
    return f"[dim]{origin}[/]" if origin == "default" else f"[cyan]{origin}[/]"
