"""How a libvirt host is: pressure as the kernel writes it, and what libvirt tells."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.domain.inspection import Pressure
from broker.engines.libvirt.condition import read_pressure

LINE = "{} avg10={} avg60={} avg300={} total=1\n"


def write(folder: Path, resource: str, text: str) -> None:
    (folder / resource).write_text(text)


def test_pressure_is_read_as_parts_of_the_time(tmp_path: Path) -> None:
    both = LINE.format("some", "98.87", "50.00", "0.10") + LINE.format("full", "1.00", "0.00", "0")
    write(tmp_path, "cpu", LINE.format("some", "5.00", "0.00", "0.00"))
    write(tmp_path, "memory", both)
    write(tmp_path, "io", "some avg10=? avg60=1000\n\nnonsense\n")
    assert read_pressure(tmp_path) == {
        # kernels before 5.13 have no second line for the CPU
        "cpu": Pressure(some=(0.05, 0.0, 0.0), full=(0.0, 0.0, 0.0)),
        "memory": Pressure(some=(0.9887, 0.5, 0.001), full=(0.01, 0.0, 0.0)),
        "io": Pressure(some=(0.0, 1.0, 0.0), full=(0.0, 0.0, 0.0)),
    }


@pytest.mark.parametrize("missing", ["cpu", "memory", "io"])
def test_a_kernel_without_pressure_tells_none(tmp_path: Path, missing: str) -> None:
    for resource in {"cpu", "memory", "io"} - {missing}:
        write(tmp_path, resource, LINE.format("some", "0.00", "0.00", "0.00"))
    assert read_pressure(tmp_path) is None
