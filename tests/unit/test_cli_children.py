"""Child processes: told to stop, killed when they do not, never left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from broker.cli import children
from broker.cli.children import child
from broker.cli.signals import run_until_interrupted
from tests.support.eventually import eventually

PY = sys.executable
DEADLINE_S = 30.0


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return b") Z " not in Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False


async def gone(pid: int) -> None:
    await eventually(lambda: not alive(pid), within_s=DEADLINE_S)


async def test_output_is_read_by_line_and_errors_go_to_the_log(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "x.log"
    script = "import sys; print('one'); print('two'); print('oh', file=sys.stderr); sys.exit(3)"
    async with child("x", (PY, "-c", script), log) as process:
        assert [line async for line in process.lines()] == [b"one\n", b"two\n"]
        assert await process.wait() == 3
    error = process.failure("It ended")
    assert error.detail == "oh"
    assert str(log) in error.advice


async def test_the_last_runs_log_is_kept_beside_the_new_one(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    for word in ("first", "second"):
        script = f"import sys; print('{word}', file=sys.stderr)"
        async with child("x", (PY, "-c", script), log) as process:
            await process.wait()
    assert log.read_text() == "second\n"
    assert log.with_suffix(".old").read_text() == "first\n"


async def test_a_child_is_stopped_at_the_end_of_the_block_even_with_unread_output(
    tmp_path: Path,
) -> None:
    script = (
        "import signal, sys\n"
        "def bye(*_):\n"
        "    print('x' * 300_000, flush=True)\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, bye)\n"
        "print('up', flush=True)\n"
        "while True: signal.pause()\n"
    )
    async with child("x", (PY, "-c", script), tmp_path / "x.log") as process:
        async for line in process.lines():
            assert line == b"up\n"
            break
    assert process.code == 0


async def test_a_child_that_does_not_listen_is_killed_with_its_own_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "STOP_S", 0.3)
    script = (
        "import signal, subprocess, sys\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "other = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'],"
        " stdout=subprocess.DEVNULL)\n"
        "print(other.pid, flush=True)\n"
        "while True: signal.pause()\n"
    )
    grandchild = 0
    async with child("x", (PY, "-c", script), tmp_path / "x.log") as process:
        async for line in process.lines():
            grandchild = int(line)
            break
    assert process.code == -signal.SIGKILL
    await gone(grandchild)


async def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    script = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from broker.cli.children import child\n"
        "async def main():\n"
        "    sleeper = 'import signal; print(1, flush=True); signal.pause()'\n"
        "    command = (sys.executable, '-c', sleeper)\n"
        "    async with child('x', command, Path(sys.argv[1])) as process:\n"
        "        async for _ in process.lines():\n"
        "            print(process.pid, flush=True)\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        *(PY, "-c", script, str(tmp_path / "x.log")),
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert parent.stdout is not None
    grandchild = int(await asyncio.wait_for(parent.stdout.readline(), DEADLINE_S))
    assert alive(grandchild)
    parent.kill()
    await parent.wait()
    await gone(grandchild)
    # closes the pipe that the grandchild held open
    await parent.stdout.read()


def test_an_interrupt_cancels_cleans_up_and_is_no_error() -> None:
    cleaned: list[str] = []

    async def work() -> str:
        os.kill(os.getpid(), signal.SIGTERM)
        try:
            await asyncio.sleep(DEADLINE_S)
        finally:
            cleaned.append("yes")
        return "never"

    assert run_until_interrupted(work()) is None
    assert cleaned == ["yes"]


def test_without_an_interrupt_the_result_comes_back() -> None:
    async def work() -> int:
        return 7

    assert run_until_interrupted(work()) == 7


def test_a_second_interrupt_ends_the_process_at_once() -> None:
    script = (
        "import asyncio, os, signal\n"
        "from broker.cli.signals import run_until_interrupted\n"
        "async def work():\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    try:\n"
        "        await asyncio.sleep(60)\n"
        "    finally:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        await asyncio.sleep(60)\n"
        "run_until_interrupted(work())\n"
    )
    done = subprocess.run(
        [PY, "-c", script], timeout=DEADLINE_S, check=False, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == 130
