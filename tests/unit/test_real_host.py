"""The files of the demo's own libvirt daemon."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from broker.cli import real_host
from broker.cli.errors import CommandError
from broker.cli.real_host import IMAGE, VERSION, RealHost, at


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RealHost:
    """One on a machine that has everything."""
    monkeypatch.setattr(real_host, "check", lambda _socket: None)
    return at(tmp_path)


def image(folder: Path, content: bytes) -> Path:
    made = folder / "image.qcow2"
    made.write_bytes(content)
    return made


def test_an_earlier_runs_golden_desktop_is_kept_and_its_machines_are_not(
    host: RealHost, tmp_path: Path
) -> None:
    host.prepare(image(tmp_path, b"image"))
    golden = host.volumes / f"{IMAGE}-v{VERSION}-golden-1.save"
    golden.touch()
    (host.volumes / "dsk_1-g1.qcow2").touch()
    machine = host.root / "etc/libvirt/qemu/trivium-dsk_1.xml"
    machine.parent.mkdir()
    machine.touch()
    host.prepare(image(tmp_path, b"image"))
    assert sorted(path.name for path in host.volumes.iterdir()) == [
        f"{IMAGE}-v{VERSION}-golden-1.save",
        f"{IMAGE}-v{VERSION}.qcow2",
    ]
    assert not machine.exists()


def test_another_image_takes_the_golden_desktop_of_the_one_before_with_it(
    host: RealHost, tmp_path: Path
) -> None:
    host.prepare(image(tmp_path, b"image"))
    (host.volumes / f"{IMAGE}-v{VERSION}-golden-1.save").touch()
    host.prepare(image(tmp_path, b"newer"))
    [only] = host.volumes.iterdir()
    assert only.read_bytes() == b"newer"


def test_its_hosts_profile_names_its_own_daemon(host: RealHost) -> None:
    kind, _, knobs = host.profile.partition("?")
    uri = urlsplit(parse_qs(knobs)["uri"][0])
    assert (kind, parse_qs(uri.query)["socket"]) == ("qemu", [str(host.socket)])


@pytest.mark.parametrize(
    ("programs", "user", "socket", "why"),
    [
        ("", 0, "/run/s", "there is no libvirtd"),
        ("/bin/true", 1000, "/run/s", "only root"),
        ("/bin/true", 0, "/run/" + "s" * 107, "too long"),
    ],
)
def test_where_it_cannot_run_it_says_why(
    monkeypatch: pytest.MonkeyPatch, programs: str, user: int, socket: str, why: str
) -> None:
    monkeypatch.setattr(real_host, "find_spec", lambda _name: object())
    monkeypatch.setattr("shutil.which", lambda _name, path: programs or None)
    monkeypatch.setattr("os.geteuid", lambda: user)
    with pytest.raises(CommandError) as refused:
        real_host.check(Path(socket))
    assert why in refused.value.detail
