"""The way to a host's daemon, looked at before the host is added: name, port, key, sign-in."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ssl
from pathlib import Path
from typing import Final

from broker.domain.errors import ConfigError, EngineError, HostUnreachableError
from broker.domain.inspection import Step
from broker.engines.libvirt.address import Transport
from broker.engines.libvirt.knobs import Place
from broker.engines.libvirt.looks import missing, ok, unknown
from broker.engines.libvirt.route import Route, ssh_host
from broker.engines.reach.commands import Command, Said
from broker.engines.reach.ssh import (
    DOOR,
    Refused,
    broker_key,
    host_key,
    public_line,
    try_socket,
)
from broker.engines.reach.tls import pki_of, ssl_context

_LOCAL: Final = frozenset({Transport.UNIX, Transport.TCP})
_DATE: Final = "%d %B %Y"


class Ways:
    """`name`: the host's, for words. `data`: the broker's data directory. Each raises
    EngineError for what it has no words of its own for."""

    def __init__(self, name: str, place: Place, data: Path | None) -> None:
        self._name = name
        self._place = place
        self._data = data

    @property
    def _folder(self) -> Path:
        if self._data is None:
            raise EngineError("there is no data directory for keys")
        return self._data

    async def name(self) -> Step:
        address = self._place.address
        if address.transport is Transport.UNIX:
            return ok("name", "the daemon is on the broker's own machine")
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(address.host, address.port, type=1)
        except OSError:
            advice = "Look at the address, or add the name to the DNS that the broker asks."
            return missing("name", f"no address is known of {address.host}", advice)
        addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
        return ok("name", f"{address.host} is at {', '.join(addresses[:4])}")

    async def port(self) -> Step:
        address = self._place.address
        where = f"port {address.port} of {address.host}" if address.port else address.socket
        try:
            if address.transport is Transport.UNIX:
                if not address.socket or address.path != "/system":
                    return ok("port", "libvirt starts what is needed by itself")
                _, writer = await asyncio.open_unix_connection(address.socket)
            else:
                _, writer = await asyncio.open_connection(address.host, address.port)
        except OSError:
            advice = (
                "Start libvirtd there."
                if address.transport in _LOCAL
                else "Start the service there, and let the broker through the firewall."
            )
            return missing("port", f"nothing answers at {where}", advice)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return ok("port", f"{where} answers")

    async def key(self) -> Step:
        match self._place.address.transport:
            case Transport.SSH:
                return await self._ssh_key()
            case Transport.TLS:
                return await self._certificate()
            case _:
                return ok("key", "nothing leaves the broker's machine")

    async def _ssh_key(self) -> Step:
        wanted = self._place.host_key
        shown = await host_key(ssh_host(self._name, self._place))
        if not wanted:
            advice = (
                "Compare it with what `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` says at "
                "the host itself; if it is the same, confirm it."
            )
            text = f"the host shows the key {shown}, which nobody has confirmed yet"
            return unknown("key", text, advice, host_key=shown)
        if not hmac.compare_digest(wanted, shown):
            advice = (
                "Somebody may be in between, or the host was installed anew: find out which at the "
                "host itself before you confirm the new key."
            )
            text = f"the host shows the key {shown}; {wanted} was confirmed"
            return missing("key", text, advice, host_key=shown)
        return ok("key", f"the host shows the key that was confirmed, {shown}")

    async def _certificate(self) -> Step:
        address = self._place.address
        try:
            pki = await asyncio.to_thread(pki_of, self._folder, address.host)
        except EngineError as error:
            advice = f"Put the files that libvirt's clients need into pki/{address.host} there."
            return missing("key", error.detail, advice)
        try:
            context = await asyncio.to_thread(ssl_context, pki.folder)
            _, writer = await asyncio.open_connection(address.host, address.port, ssl=context)
        except ssl.SSLError as error:
            reason = getattr(error, "verify_message", "") or "no agreement on how to speak"
            advice = (
                "Have the host's certificate made by the authority in cacert.pem, for its name."
            )
            return missing("key", f"the host's certificate is not taken: {reason}", advice)
        except OSError:
            raise EngineError("the host hung up before it showed a certificate") from None
        writer.transport.abort()
        return ok(
            "key",
            f"the host's certificate is good; the broker's ends on {pki.expires:{_DATE}}",
        )

    async def sign_in(self) -> Step:
        """Over SSH; a daemon on this machine needs none."""
        if self._place.address.transport is not Transport.SSH:
            return ok("sign_in", "the daemon's socket is open to the broker")
        try:
            key = await asyncio.to_thread(broker_key, self._folder)
        except ConfigError as error:
            return missing("sign_in", error.detail, "Remove the file, or repair it.")
        line = public_line(key)
        address = self._place.address
        try:
            await try_socket(ssh_host(self._name, self._place), key, address.socket)
        except HostUnreachableError as error:
            return self._refused(error, line)
        return ok("sign_in", f"the host lets the broker in, and to {address.socket}")

    async def power(self, route: Route) -> Step:
        """Whether the host has the broker's commands run; the one that switches it off is not
        tried."""
        off, wake = self._place.off, self._place.wake
        if off is None or wake is None:
            return ok("power", "the broker does not switch the host on or off (off, wake)")
        says = f"off by {off.command!s} over SSH, on by a packet to {wake.mac}"
        try:
            said = await route.run(Command.LOOK)
        except HostUnreachableError as error:
            if error.fields.get("refused") != Refused.COMMAND:
                raise
            said = Said(status=None, text="")
        if not said.text:
            advice = f"Put {DOOR} there, as docs/hypervisors.md has it, and give the user a shell."
            return missing("power", "the host runs no command of the broker's", advice)
        return ok("power", f"{says}; that it wakes is seen when it is off")

    def _refused(self, error: HostUnreachableError, line: str) -> Step:
        address = self._place.address
        match error.fields.get("refused"):
            case Refused.SIGN_IN:
                where = f"~{address.user or 'root'}/.ssh/authorized_keys"
                advice = f"Add this line to {where} at the host: {line}"
                return missing("sign_in", error.detail, advice, public_key=line)
            case Refused.SOCKET:
                advice = (
                    f"Start libvirtd there, let the user read and write {address.socket} (the "
                    "group libvirt), and allow forwarding in sshd (AllowStreamLocalForwarding)."
                )
                return missing("sign_in", error.detail, advice)
            case _:
                raise error
