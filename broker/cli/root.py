"""The root command. Each sub-command's module is imported when it is asked for, not before."""

from __future__ import annotations

import importlib
import io
import sys
from collections.abc import Mapping
from typing import Any, Final

import click

from broker.cli.errors import CommandError
from broker.cli.output import Output
from broker.domain.errors import TriviumError

COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "serve": ("broker.cli.serve:serve", "Run a broker until it is interrupted."),
    "demo": ("broker.cli.demo:demo", "A school, 300 endpoints and a campaign, then serve."),
    "fleet": ("broker.cli.fleet:fleet", "Run simulated endpoints against a broker."),
    "campaign": ("broker.cli.campaigns:campaign", "Measure VDI, IDV and VOI under load."),
    "simulate": ("broker.cli.simulate:simulate", "Run brokers under faults in virtual time."),
    "import": ("broker.cli.roster:import_", "Import a roster from CSV files."),
    "user": ("broker.cli.users:user", "Look at people and change them."),
    "pool": ("broker.cli.pools:pool", "Look at pools and change them."),
    "image": ("broker.cli.images:image", "Look at golden images, examine and upload them."),
    "host": ("broker.cli.hosts:host", "Look at hosts, drain them, and change their settings."),
    "desktop": ("broker.cli.desktops:desktop", "Look at desktops, and why each is as it is."),
    "session": (
        "broker.cli.sessions:session",
        "Look at sessions, extend and end them, tell people.",
    ),
    "endpoint": ("broker.cli.endpoints:endpoint", "Look at endpoints and retire them."),
    "backup": ("broker.cli.backup:backup", "Back up an installation while it serves; restore it."),
    "rule": ("broker.cli.policies:rule", "Rules of who may use which pool, where and when."),
    "quota": ("broker.cli.policies:quota", "How many sessions may be live at once."),
    "preview": ("broker.cli.preview:preview", "What a person can do now, and why."),
    "site": ("broker.cli.site:site", "Open, drain or close the whole site."),
    "audit": ("broker.cli.audit:audit", "Look at the audit trail, export it, check it."),
    "db": ("broker.cli.db:db", "Migrate and check the database, draw the lifecycles."),
    "check-config": ("broker.cli.settings:check_config", "Show every setting and its origin."),
}


class Commands(click.Group):
    """Knows its commands by name, and turns the broker's errors into what a command says."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        found: click.Command = getattr(importlib.import_module(module), name)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, says) for name, (_, says) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except TriviumError as error:
            raise CommandError.of(error) from error
        except BaseExceptionGroup as group:
            # Tasks that run together fail as a group; its first cause is what to tell.
            raise _told(_cause(group), ctx) from group
        except (click.exceptions.Exit, click.ClickException, click.Abort):
            raise
        except Exception as error:
            raise _told(error, ctx) from error


def _told(error: BaseException, ctx: click.Context) -> BaseException:
    """The error itself with --traceback, else a sentence about it."""
    output = ctx.find_object(Output)
    expected = (click.exceptions.Exit, click.ClickException, click.Abort)
    if isinstance(error, expected) or (output is not None and output.traceback):
        return error
    if isinstance(error, BrokenPipeError) or not isinstance(error, Exception):
        return error
    return CommandError(
        "Something went wrong that trivium did not expect",
        detail=f"{type(error).__name__}: {error}",
        advice="Run it again as `trivium --traceback …` and report what it shows.",
        code=TriviumError.code,
    )


def _cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    leaves: list[BaseException] = []
    waiting: list[BaseException] = [group]
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, BaseExceptionGroup):
            waiting.extend(one.exceptions)
        else:
            leaves.append(one)
    for leaf in leaves:
        if isinstance(leaf, click.ClickException):
            return leaf
        if isinstance(leaf, TriviumError):
            return CommandError.of(leaf)
    return leaves[0]


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="trivium", message="trivium %(version)s")
@click.option("--traceback", is_flag=True, help="Show where an unexpected error comes from.")
@click.pass_context
def root(context: click.Context, *, traceback: bool) -> None:
    """Trivium gives people desktops under VDI, IDV and VOI, and measures how they compare.

    `trivium demo` shows everything at once. Exit codes: 0 done, 1 failed, 2 called wrongly,
    3 no broker answers.
    """
    context.ensure_object(Output).traceback = traceback


def main() -> None:
    """The console script. Shows no traceback unless it is asked to."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Names may have characters that an old terminal's encoding lacks.
            stream.reconfigure(errors="backslashreplace")
    root.main(prog_name="trivium")
