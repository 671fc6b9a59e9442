"""Letting an endpoint in: Hello, Challenge, Proof. And turning one away, with the reason."""

from __future__ import annotations

from typing import Final, TypeVar

from broker import wire
from broker.domain.errors import (
    BadEnrolmentError,
    BadProofError,
    ProtocolError,
    TriviumError,
)
from broker.domain.model import Endpoint
from broker.ports import Line
from broker.services.endpoints import Endpoints, check_protocol

CLOSE_REFUSED: Final = 4003
"""close code: see the Refused message before it"""

_FINAL: Final = (BadProofError, BadEnrolmentError, ProtocolError)

_Message = TypeVar("_Message", wire.Hello, wire.Proof)


async def shake_hands(line: Line, endpoints: Endpoints) -> tuple[Endpoint, wire.Hello]:
    """The endpoint, once it has proved its key; it is online then.

    Raises:
        TriviumError: it is refused. ConnectionError: it went. wire.DecodeError: it babbles.
    """
    hello = await _expect(line, wire.Hello)
    check_protocol(hello.protocol, wire.PROTOCOL)
    nonce = endpoints.challenge()
    installation = endpoints.installation_id
    await line.send(wire.encode(wire.Challenge(nonce=nonce, installation_id=installation)))
    proof = await _expect(line, wire.Proof)
    try:
        signature = bytes.fromhex(proof.signature)
    except ValueError as error:
        raise BadProofError from error
    payload = wire.proof_payload(installation, hello.endpoint_id, nonce)
    endpoint = await endpoints.prove(hello.endpoint_id, payload, signature, hello.agent_version)
    return endpoint, hello


async def _expect(line: Line, kind: type[_Message]) -> _Message:
    """The next message, which must be of this kind."""
    text = await line.receive()
    if text is None:
        raise ConnectionResetError
    found = wire.decode_from_agent(text)
    if not isinstance(found, kind):
        raise ProtocolError(f"{kind.__name__.lower()} was expected here")
    return found


async def refuse(line: Line, error: TriviumError) -> None:
    """Tell the endpoint why, and close."""
    refused = wire.Refused(
        code=error.code,
        detail=error.detail,
        retry_after_s=error.retry_after_s,
        final=isinstance(error, _FINAL),
    )
    try:
        await line.send(wire.encode(refused))
    except ConnectionError:
        return
    await line.close(CLOSE_REFUSED, error.code)
