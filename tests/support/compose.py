"""docker-compose.yml carried out without Docker: our services as plain processes on loopback.

What a container would give is replaced and nothing else: host names and ports by loopback and
free ports, volumes by directories, images by this environment, entry points by the Dockerfile's.
Order, health checks, commands and settings are the file's own.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.support.tree import ROOT

UP_S = 150.0
"""for one service to be healthy or to have ended; generous, the machine is shared"""
STOP_S = 40.0
LOG_CHARS = 3000
"""of each log that a failure shows"""

Service = Mapping[str, Any]


def listening_port() -> int:
    """A free port for a server that starts later.

    Below the range that the system gives to outgoing connections, of which a fleet opens hundreds.
    """
    for port in random.sample(range(15_000, 32_000), 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")


def services() -> dict[str, Service]:
    document = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    found: dict[str, Service] = document["services"]
    return found


def ours() -> dict[str, Service]:
    """The services that are built here."""
    return {name: service for name, service in services().items() if "build" in service}


def interpolate(text: str, variables: Mapping[str, str]) -> str:
    """`${NAME:?why}` as compose reads it: a missing one is an error, and `why` its text."""

    def value(match: re.Match[str]) -> str:
        name, why = match.groups()
        if not variables.get(name):
            raise LookupError(why)
        return variables[name]

    return re.sub(r"\$\{(\w+):\?([^}]*)\}", value, text)


@dataclass(frozen=True)
class Target:
    """What the Dockerfile says of one image."""

    entrypoint: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


def dockerfile_targets() -> dict[str, Target]:
    """Entry point and environment of every stage, inherited as Docker does."""
    text = (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
    stages: dict[str, Target] = {}
    name = ""
    for line in text.splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            stages[name] = stages.get(base, Target())
        elif word == "ENTRYPOINT":
            entry = tuple(json.loads(rest))
            stages[name] = Target(entry, stages[name].environment)
        elif word == "ENV":
            pairs = dict(pair.split("=", 1) for pair in rest.split())
            stages[name] = Target(stages[name].entrypoint, {**stages[name].environment, **pairs})
    return stages


class Compose:
    """`docker compose --profile load up`, for the services that are built here.

    `replace`: what containers see -> what is here, longest first. `extra`: arguments that a test
    adds to a service's command, to make it short.
    """

    def __init__(
        self,
        folder: Path,
        *,
        variables: Mapping[str, str],
        replace: Mapping[str, str],
        extra: Mapping[str, Iterable[str]],
    ) -> None:
        self._folder = folder
        self._variables = variables
        self._replace = replace
        self._extra = extra
        self._targets = dockerfile_targets()
        self._running: dict[str, list[subprocess.Popen[bytes]]] = {}

    def here(self, text: str) -> str:
        """A text of the compose file as it holds on this machine."""
        text = interpolate(text, self._variables)
        pattern = "|".join(re.escape(one) for one in sorted(self._replace, key=len, reverse=True))
        return re.sub(pattern, lambda match: self._replace[match.group()], text)

    def log(self, name: str) -> str:
        """What a service said, and what it left in log files."""
        logs = [*self._folder.glob(f"{name}.*.log"), *self._folder.glob("data/**/*.log")]
        texts = [path.read_text("utf-8", "replace")[-LOG_CHARS:] for path in logs]
        return "\n".join(texts)

    def up(self, name: str) -> None:
        """Start one service, after what it depends on.

        Raises AssertionError with its log when it does not come up.
        """
        if name in self._running or name not in ours():
            return
        service = ours()[name]
        for other, how in service.get("depends_on", {}).items():
            self.up(other)
            if other in self._running:
                self._reach(other, how["condition"])
        target = self._targets[service["build"]["target"]]
        command = [*target.entrypoint, *service["command"]]
        copies = service.get("deploy", {}).get("replicas", 1)
        self._running[name] = [
            self._start(
                [*(self.here(one) for one in command), *self._extra.get(name, ())],
                self.environment(name),
                self._folder / f"{name}.{number}.log",
            )
            for number in range(copies)
        ]

    def wait_for(self, name: str) -> int:
        """Its exit code, once it has ended."""
        (process,) = self._running[name]
        try:
            return process.wait(UP_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{name} goes on: {self.log(name)}") from None

    def healthy(self, name: str) -> None:
        """Return once its health check passes; one that ended is not healthy."""
        test = ours()[name]["healthcheck"]["test"]
        check = ["/bin/sh", "-c", test[1]] if test[0] == "CMD-SHELL" else test[1:]
        command = [self.here(one) for one in check]
        deadline = time.monotonic() + UP_S
        while True:
            code = subprocess.run(
                command,
                env=self.environment(name),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=UP_S,
                check=False,
            ).returncode
            assert self.alive(name), f"{name} ended: {self.log(name)}"
            if code == 0:
                return
            assert time.monotonic() < deadline, f"{name} is not healthy: {self.log(name)}"
            time.sleep(0.2)

    def alive(self, name: str) -> bool:
        return all(process.poll() is None for process in self._running[name])

    def down(self) -> dict[str, list[int]]:
        """Stop everything, last started first, as compose does; the exit codes."""
        codes: dict[str, list[int]] = {}
        for name, processes in reversed(self._running.items()):
            for process in processes:
                if process.poll() is None:
                    process.send_signal(signal.SIGTERM)
            codes[name] = [self._end(process) for process in processes]
        self._running.clear()
        return codes

    def _reach(self, name: str, condition: str) -> None:
        if condition == "service_completed_successfully":
            code = self.wait_for(name)
            assert code == 0, f"{name} ended with {code}: {self.log(name)}"
        elif condition == "service_healthy":
            self.healthy(name)
        else:
            assert condition == "service_started"

    def environment(self, name: str) -> dict[str, str]:
        service = ours()[name]
        given = {
            **self._targets[service["build"]["target"]].environment,
            **service.get("environment", {}),
        }
        given.pop("PATH", None)
        programs = [str(Path(sys.executable).parent), os.environ["PATH"]]
        return {
            "PATH": os.pathsep.join(programs),
            "HOME": str(self._folder),
            **{key: self.here(value) for key, value in given.items()},
        }

    def _start(
        self, command: list[str], environment: Mapping[str, str], log: Path
    ) -> subprocess.Popen[bytes]:
        with log.open("wb") as output:
            return subprocess.Popen(
                command,
                cwd=self._folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> int:
        try:
            return process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return process.wait()
