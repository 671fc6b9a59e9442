"""Errors with stable codes: what happened, and what the caller may do about it.

A code is part of the public interface: the web maps it to problem+json, the CLI prints it,
docs/errors.md lists it. HTTP statuses are the web's business and are not known here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class TriviumError(Exception):
    """Base of every error that may be shown to a person or a program.

    `detail` says what happened in this case; `advice` says what to do next. Neither carries
    a secret, a driver's text or a path of the server.
    """

    code: ClassVar[str] = "internal.error"
    title: ClassVar[str] = "Something went wrong inside the broker"
    advice: str = "Try again; if it stays, give the request id to the administrator."

    def __init__(
        self,
        detail: str | None = None,
        *,
        retry_after_s: float | None = None,
        fields: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.retry_after_s = retry_after_s
        self.fields: Mapping[str, object] = dict(fields or {})


class BadRequestError(TriviumError):
    code = "request.invalid"
    title = "The request is not valid"
    advice = "Correct the named field and send the request again."


class BodyTooLargeError(TriviumError):
    code = "request.too_large"
    title = "The request body is larger than this address takes"
    advice = "Send less at a time."


class BadMediaTypeError(TriviumError):
    code = "request.media_type"
    title = "Only plain UTF-8 application/json is taken here"
    advice = "Send Content-Type: application/json and no Content-Encoding."


class MethodNotAllowedError(TriviumError):
    code = "request.method"
    title = "This address does not take that method"
    advice = "Use one of the methods in the Allow header."


class MisdirectedError(TriviumError):
    code = "request.host"
    title = "This broker does not answer for that host name"
    advice = "Use the address in TRIVIUM_PUBLIC_URL, or add the one you use to TRIVIUM_ORIGINS."


class NotSignedInError(TriviumError):
    code = "auth.required"
    title = "Sign in first"
    advice = "Send a valid bearer token, or sign in again if yours has ended."


class BadCredentialsError(TriviumError):
    code = "auth.bad_credentials"
    title = "The user name or the password is wrong"
    advice = "Check both and try again."


class TooManyAttemptsError(TriviumError):
    code = "auth.too_many_attempts"
    title = "Too many failed sign-ins"
    advice = "Wait for the time in Retry-After, then try again."


class ForbiddenError(TriviumError):
    code = "auth.forbidden"
    title = "Your role does not allow this"
    advice = "Ask an administrator for the permission named in the detail."


class BadOriginError(TriviumError):
    code = "auth.origin"
    title = "The request comes from a page that is not part of this site"
    advice = "Open the console at its own address."


class SetupClosedError(TriviumError):
    code = "setup.closed"
    title = "This set-up link is not valid any more"
    advice = "An administrator exists or the link was used; sign in instead."


class NotFoundError(TriviumError):
    code = "resource.not_found"
    title = "There is no such thing, or you may not see it"
    advice = "Check the id; list the resource to find it."


class ConflictError(TriviumError):
    code = "resource.conflict"
    title = "The thing is not in a state that allows this"
    advice = "Read it again, then decide."


class AlreadyExistsError(TriviumError):
    code = "resource.exists"
    title = "A thing of that name exists already"
    advice = "Choose another name, or change the existing one."


class IdempotencyMismatchError(TriviumError):
    code = "idempotency.mismatch"
    title = "This idempotency key was used for a different request"
    advice = "Use a new key for a new request."


class NotEntitledError(TriviumError):
    code = "admission.not_entitled"
    title = "You are not entitled to this pool"
    advice = "Ask an administrator to entitle one of your groups to it."


class PoolClosedError(TriviumError):
    code = "admission.pool_closed"
    title = "This pool takes no new sessions at the moment"
    advice = "Try another pool, or later."


class DeniedByRuleError(TriviumError):
    code = "admission.denied"
    title = "A rule does not allow this here or now"
    advice = "Ask an administrator about the rule named in the detail."


class OverQuotaError(TriviumError):
    code = "admission.over_quota"
    title = "As many sessions as a quota allows are live already"
    advice = "End a session that you do not need, or ask an administrator about the quota."


class SiteClosedError(TriviumError):
    code = "admission.site_closed"
    title = "The site takes no new sessions at the moment"
    advice = "Try again later; desktops that are in use stay in use."


class ElsewhereError(TriviumError):
    code = "session.elsewhere"
    title = "Your session is in use at another place"
    advice = "Disconnect or log off there first; this pool's sessions do not move by themselves."


class WrongEndpointError(TriviumError):
    code = "admission.wrong_endpoint"
    title = "This endpoint cannot carry a desktop of that pool"
    advice = "Sit down at an endpoint of the pool, or choose another pool."


class QueueFullError(TriviumError):
    code = "admission.queue_full"
    title = "The queue for this pool is full"
    advice = "Try again after the time in Retry-After."


class BusyError(TriviumError):
    code = "server.busy"
    title = "The broker has as much work of this kind as it takes"
    advice = "Try again after the time in Retry-After."


class UnavailableError(TriviumError):
    code = "server.unavailable"
    title = "A part that the broker needs does not answer"
    advice = "Try again after the time in Retry-After; /readyz says which part it is."


class IllegalTransitionError(TriviumError):
    code = "lifecycle.refused"
    title = "That cannot happen in this state"
    advice = "Look at its state now: wait until it is another, or bring it there first."


class BadTicketError(TriviumError):
    code = "ticket.refused"
    title = "The ticket is unknown, used or too old"
    advice = "Ask for the session again to get a new ticket."


class BadEnrolmentError(TriviumError):
    code = "enrolment.refused"
    title = "The enrolment token is unknown, used or too old"
    advice = "Make a new token with `trivium endpoint tokens` or in the console."


class BadProofError(TriviumError):
    code = "endpoint.bad_proof"
    title = "The endpoint did not prove who it is"
    advice = "Enrol the endpoint again with a new token."


class ProtocolError(TriviumError):
    code = "endpoint.protocol"
    title = "The endpoint sent something outside the protocol"
    advice = "Update the agent to a version that this broker speaks."


class BadImageError(TriviumError):
    code = "image.refused"
    title = "This file is not a disk image that is taken"
    advice = "Make a plain qcow2 of it (qemu-img convert -O qcow2), and say its format."

    def __init__(self, detail: str | None = None, *, advice: str = "") -> None:
        """`advice`: where the disk's format is not what is wrong."""
        super().__init__(detail)
        self.advice = advice or type(self).advice


class RosterError(TriviumError):
    """A roster was refused whole; `fields["problems"]` lists every bad line."""

    code = "roster.invalid"
    title = "The roster has bad lines; nothing was changed"
    advice = "Correct the lines listed and import again."


class EngineError(TriviumError):
    code = "engine.failed"
    title = "The engine could not do this"
    advice = "The broker tries again by itself; see the job for the reason."


class StaleGenerationError(EngineError):
    code = "engine.stale_generation"
    title = "The machine belongs to a later generation of the desktop"
    advice = "Nothing to do: a newer decision replaced this one."


class UnsupportedError(EngineError):
    code = "engine.unsupported"
    title = "The engine cannot do this on that host"
    advice = "Choose another host, or leave the setting off; the host's page lists what it can do."


class NotHereError(EngineError):
    """It may be done by another process: this one lacks the engine, or cannot read the host's
    profile, as while brokers are replaced by newer ones."""

    code = "engine.not_here"
    title = "This broker process cannot work on that host"
    advice = (
        "Nothing to do while brokers are upgraded: another one does it. If it stays, look whether "
        "the host's engine is installed, and at its profile."
    )


class BadProfileError(EngineError):
    """Of a host that is there already; whoever adds one is answered BadRequestError."""

    code = "engine.profile"
    title = "The host's profile is not understood"
    advice = "Correct the host's profile; `trivium host check` tells whether another one would do."


class HostUnreachableError(EngineError):
    """`fields["refused"]`: what was: network, key, sign_in or socket."""

    code = "engine.host_unreachable"
    title = "The host was not reached"
    advice = "`trivium host check` looks step by step, and names what is missing."


class ConsoleProxyError(EngineError):
    """`fields["refused"]`: what was: address, network, certificate, http, token, protocol, silence
    or closed (the broker's own end)."""

    code = "engine.console_proxy"
    title = "The cloud's console proxy did not show the desktop"
    advice = (
        "Look whether the broker may reach the proxy that Nova names (novncproxy_base_url), and "
        "whether clouds.yaml trusts its certificate."
    )


class GuestSilentError(EngineError):
    code = "guest.silent"
    title = "The desktop's guest agent gave no answer"
    advice = "Try again; if it stays, look whether the agent runs in the image (docs/guest.md)."


class GuestRefusedError(EngineError):
    code = "guest.refused"
    title = "The desktop's guest agent could not do this"
    advice = "Look at the agent's settings in the image: docs/guest.md names what each verb runs."


class BrokenChainError(TriviumError):
    code = "audit.broken_chain"
    title = "The audit trail was changed after it was written"
    advice = "Keep the database as it is, and compare it with an export or a backup from before."


class BadBackupError(TriviumError):
    code = "backup.invalid"
    title = "This file is not a complete backup that this version can restore"
    advice = "Check that it was copied whole, and restore with the version named in the detail."


class ConfigError(TriviumError):
    code = "config.invalid"
    title = "The configuration is not valid"
    advice = "Correct the named setting; `trivium check-config` shows where each value comes from."


class ResumingError(TriviumError):
    code = "desktop.resuming"
    title = "The desktop was suspended and is being resumed"
    advice = "Ask for the session again after the time in Retry-After."


class DesktopInUseError(TriviumError):
    code = "desktop.in_use"
    title = "A session has the desktop"
    advice = "Log the session off, then ask again."


class ImageInUseError(TriviumError):
    code = "image.in_use"
    title = "Pools start from this version of the image"
    advice = "Give these pools another version first (trivium pool change --image), then ask again."


class SnapshotRefusedError(TriviumError):
    code = "snapshot.refused"
    title = "The desktop takes no snapshot, or cannot go back to it, now or at all"
    advice = "The detail says why; drop a snapshot, wait, or choose another desktop accordingly."


class HostHoldsWorkError(TriviumError):
    code = "host.holds_work"
    title = "People's work lies on the host"
    advice = "Bring the host back, or retire it with give_up if that work is lost anyway."


class HostOccupiedError(TriviumError):
    code = "host.occupied"
    title = "The host's desktops could not be found any more"
    advice = (
        "Put the host under maintenance and wait until it is empty, or add the other machine as a "
        "host of its own."
    )


class HostRefusedError(TriviumError):
    code = "placement.host_refused"
    title = "The desktop cannot move to that host now"
    advice = "The detail says why; choose another host, or wait."


class NoHostFitsError(TriviumError):
    code = "placement.no_host_fits"
    title = "No host has room for another desktop"
    advice = "Add a host, or lower the pool's size."


def every_error() -> tuple[type[TriviumError], ...]:
    """Every error type, base first, in a stable order: for the web's map, docs and tests."""
    found: list[type[TriviumError]] = []
    waiting: list[type[TriviumError]] = [TriviumError]
    while waiting:
        kind = waiting.pop(0)
        found.append(kind)
        waiting.extend(sorted(kind.__subclasses__(), key=lambda sub: sub.code))
    return tuple(found)
