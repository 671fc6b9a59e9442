"""Displays of OpenStack desktops: Nova hands out a console, its proxy is spoken to, for real."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from broker.domain.errors import ConsoleProxyError, EngineError, UnsupportedError
from broker.engines.openstack import consoles
from broker.engines.openstack.consoles import hand_out
from broker.engines.reach import novnc
from broker.engines.reach.novnc import ConsoleProxies, Proxied, proxied
from broker.limits import CONSOLES_PER_MACHINE_MAX
from broker.ports import Console
from tests.support.builders import make_desktop
from tests.support.engines import EngineCase, listening
from tests.support.eventually import eventually
from tests.support.openstack_cases import openstack_case, openstack_engine, profile
from tests.support.openstack_lab import OpenStackLab
from tests.support.rfb import display_at
from tests.support.rfb_server import GREETING, colour_after

DESKTOP = make_desktop()


@pytest.fixture
def case(openstack_lab: OpenStackLab) -> EngineCase:
    return openstack_case(openstack_lab)


@pytest.fixture
def cloud(openstack_lab: OpenStackLab) -> Iterator[Any]:
    """As its administrator sees it."""
    with contextlib.closing(openstack_lab.cloud()) as connection:
        yield connection


@pytest.fixture
def tokens(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Those that the cloud hands out."""
    seen: list[str] = []

    def look(page: str) -> Proxied:
        found = proxied(page)
        seen.append(found.address.partition("token=")[2])
        return found

    monkeypatch.setattr(novnc, "proxied", look)
    return seen


async def ended(console: Console) -> None:
    async with asyncio.timeout(60):
        while await console.receive():
            pass


async def test_a_desktop_is_seen_and_typed_at_through_novas_own_proxy(
    case: EngineCase, tokens: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """And the token that opens it is in no log, however much is logged."""
    caplog.set_level(logging.DEBUG)
    async with listening(engine := case.start()) as heard:
        assert engine.displays(case.host) == {"vnc"}
        await engine.create(case.operation("job_1", DESKTOP))
        await eventually(lambda: heard)
        async with display_at(engine, DESKTOP) as display:
            assert (await display.look()).pixels[:3] == bytes(colour_after(0))
            await display.type("ab")
            await display.look()
            assert (await display.look()).pixels[:3] == bytes(colour_after(2))
    [token] = tokens
    assert len(token) == 36
    assert "remote-consoles" in caplog.text
    assert token not in caplog.text


async def test_a_broker_that_started_anew_shows_what_another_made(case: EngineCase) -> None:
    async with listening(engine := case.start()) as heard:
        await engine.create(case.operation("job_1", DESKTOP))
        await eventually(lambda: heard)
    async with listening(engine := case.start()):
        await engine.adopt(DESKTOP, case.host)
        console = await engine.console(DESKTOP, "ses_1", "vnc")
        assert await console.receive() == GREETING
        assert [one.users for one in await engine.machines()] == [("ses_1",)]
    assert await console.receive() == b""


async def test_a_display_ends_with_its_machine_whoever_stopped_it(
    case: EngineCase, cloud: Any
) -> None:
    async with listening(engine := case.start()) as heard:
        await engine.create(case.operation("job_1", DESKTOP))
        await eventually(lambda: heard)
        console = await engine.console(DESKTOP)
        await engine.suspend(case.operation("job_2", DESKTOP))
        await ended(console)
        with pytest.raises(EngineError, match="does not run"):
            await engine.console(DESKTOP)
        await engine.resume(case.operation("job_3", DESKTOP))
        await eventually(lambda: len(heard) == 2)
        console = await engine.console(DESKTOP)
        [server] = cloud.compute.servers()
        await asyncio.to_thread(cloud.compute.stop_server, server)
        await ended(console)
        await engine.resume(case.operation("job_4", DESKTOP))
        await eventually(lambda: heard[-1].operation_id == "job_4")
        console = await engine.console(DESKTOP)
        await engine.destroy(case.operation("job_5", DESKTOP))
        await ended(console)


async def test_a_display_ends_when_its_machine_moves_and_where_there_is_none_that_is_told(
    case: EngineCase,
) -> None:
    """The lab's second compute has no VNC."""
    async with listening(engine := case.start()) as heard:
        await engine.create(case.operation("job_1", DESKTOP))
        await eventually(lambda: heard)
        console = await engine.console(DESKTOP)
        await engine.migrate(case.operation("job_2", DESKTOP), case.other)
        await ended(console)
        with pytest.raises(UnsupportedError, match="hands out no VNC displays"):
            await engine.console(replace(DESKTOP, host_id=case.other.id))


async def test_of_too_many_displays_of_a_machine_the_oldest_goes(case: EngineCase) -> None:
    async with listening(engine := case.start()) as heard:
        await engine.create(case.operation("job_1", DESKTOP))
        await eventually(lambda: heard)
        opened = [await engine.console(DESKTOP) for _ in range(CONSOLES_PER_MACHINE_MAX + 1)]
        await ended(opened[0])
        assert [await one.receive() for one in opened[1:]] == [GREETING] * CONSOLES_PER_MACHINE_MAX


async def test_a_place_whose_profile_wants_no_displays_opens_none(
    case: EngineCase, openstack_lab: OpenStackLab
) -> None:
    host = replace(case.host, profile=profile("compute-1", display="none"))
    async with listening(engine := openstack_engine(openstack_lab)) as heard:
        await engine.create(replace(case.operation("job_1", DESKTOP), host=host))
        await eventually(lambda: heard)
        with pytest.raises(UnsupportedError, match="shows no VNC"):
            await engine.console(DESKTOP)


async def test_other_protocols_and_generations_are_refused(case: EngineCase) -> None:
    async with listening(engine := case.start()) as heard:
        await engine.create(case.operation("job_1", DESKTOP))
        await eventually(lambda: heard)
        with pytest.raises(UnsupportedError):
            await engine.console(DESKTOP, protocol="spice")
        with pytest.raises(EngineError, match="made fresh"):
            await engine.console(replace(DESKTOP, generation=2))
        assert [one.users for one in await engine.machines()] == [()]


async def test_novas_proxy_takes_no_token_that_nova_did_not_hand_out(
    openstack_lab: OpenStackLab,
) -> None:
    port = openstack_lab.site.ports["novncproxy"]
    proxies = ConsoleProxies()
    page = f"http://127.0.0.1:{port}/vnc_lite.html?path=%3Ftoken%3D{'0' * 36}"
    with pytest.raises(ConsoleProxyError) as raised:
        await proxies.open(page, lambda _: None)
    assert raised.value.fields == {"refused": "token"}
    await proxies.close()


# ------------------------------------------------------------------- what Nova may answer


class Answering:
    """Nova's API, as far as one request goes."""

    def __init__(self, status: int, body: object) -> None:
        self.status_code = status
        self._body = body
        self.session = SimpleNamespace(verify="authority.pem")

    def post(self, *_: object, **said: object) -> Answering:
        assert said["log"] is False
        assert said["microversion"] == consoles.SINCE
        return self

    def json(self) -> object:
        if isinstance(self._body, Exception):
            raise self._body
        return self._body


@pytest.mark.parametrize("status", [400, 403, 406, 501])
def test_a_cloud_that_never_hands_out_displays_is_not_asked_again(status: int) -> None:
    with pytest.raises(UnsupportedError) as raised:
        hand_out(Answering(status, {}), "server")
    assert raised.value.detail != UnsupportedError.title


@pytest.mark.parametrize("status", [404, 409, 500, 503])
def test_what_may_pass_is_a_failure(status: int) -> None:
    with pytest.raises(EngineError) as raised:
        hand_out(Answering(status, {}), "server")
    assert not isinstance(raised.value, UnsupportedError)


@pytest.mark.parametrize(
    "body", [ValueError(), [], {}, {"remote_console": None}, {"remote_console": {"url": 7}}]
)
def test_an_answer_without_an_address_is_a_failure(body: object) -> None:
    with pytest.raises(EngineError, match="no address"):
        hand_out(Answering(200, body), "server")


def test_what_is_handed_out_is_checked_as_the_cloud_and_shown_to_nobody() -> None:
    page = "http://p/vnc.html?token=secret"
    handed = hand_out(Answering(200, {"remote_console": {"url": page}}), "server")
    assert (handed.page, handed.verify) == (page, "authority.pem")
    assert "secret" not in repr(handed)
