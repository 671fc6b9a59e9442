"""Writes requests that change something into the audit trail: before they do, and how it ended.

Where the entry cannot be written the request is refused and nothing is changed. Bodies are not
kept: only which fields were given, and values that cannot be secrets (audited.py).
"""

from __future__ import annotations

from dataclasses import replace
from http import HTTPStatus
from typing import Final

from aiohttp import web

from broker.domain.audit import AuditEntry, Outcome
from broker.domain.errors import TriviumError
from broker.services.audit import Audit
from broker.services.kit import Kit
from broker.web.audited import Audited, safe_fields
from broker.web.call import Call
from broker.web.problems import status_of
from broker.web.routes import Handler

ID_PREFIXES: Final = {
    "user_id": "usr_",
    "session_id": "ses_",
    "desktop_id": "dsk_",
    "pool_id": "pol_",
    "host_id": "hst_",
    "endpoint_id": "ept_",
}


class Recorder:
    def __init__(self, kit: Kit, audit: Audit) -> None:
        self._kit = kit
        self._audit = audit

    async def handle(self, call: Call, audited: Audited, handler: Handler) -> web.StreamResponse:
        """Let the handler do it, with an entry around it.

        Raises what the handler raises, and UnavailableError or BusyError when the entry could
        not be written: then the handler was not called.
        """
        if audited.by_service:
            return await self._by_service(call, audited, handler)
        entry = self._entry(call, audited)
        await self._audit.ask(entry)
        try:
            response = await handler(call)
        except TriviumError as error:
            await self._settle(call, entry, outcome_of(status_of(error)), error)
            raise
        except web.HTTPException as error:
            await self._settle(call, entry, outcome_of(error.status), status=error.status)
            raise
        except ConnectionError:
            # nobody knows how far it came: it stays open, and is sealed as unknown
            raise
        except Exception:
            await self._settle(call, entry, Outcome.FAILED, TriviumError())
            raise
        await self._settle(call, entry, outcome_of(response.status), status=response.status)
        return response

    async def refused(self, call: Call, audited: Audited, error: TriviumError) -> None:
        """Write that the request did not come as far as its handler."""
        entry = replace(
            self._entry(call, audited), outcome=Outcome.REFUSED, why=f"refused: {error.detail}"
        )
        details = {**entry.details, "code": error.code, "status": status_of(error)}
        await self._kit.store.audit.append([replace(entry, details=details)])

    async def _by_service(
        self, call: Call, audited: Audited, handler: Handler
    ) -> web.StreamResponse:
        try:
            return await handler(call)
        except TriviumError as error:
            own_fault = status_of(error) >= HTTPStatus.INTERNAL_SERVER_ERROR
            known = call.identity is not None
            if known and not own_fault and not isinstance(error, audited.told):
                await self.refused(call, audited, error)
            raise

    def _entry(self, call: Call, audited: Audited) -> AuditEntry:
        identity = call.identity
        details: dict[str, object] = {}
        target = call.request.match_info.get("id", "")
        about: dict[str, str] = {}
        if target and audited.about and target.startswith(ID_PREFIXES[audited.about]):
            about[audited.about] = target
        elif target:
            details["target"] = target
        fields = safe_fields(call.body)
        if fields:
            details["fields"] = dict(fields)
        return AuditEntry(
            id=self._kit.ids.new("aud"),
            at=self._kit.clock.now(),
            actor=identity.user_id if identity is not None else "",
            action=audited.action,
            outcome=Outcome.ASKED,
            details=details,
            request_id=call.id,
            source=call.address,
            **about,
        )

    async def _settle(
        self,
        call: Call,
        entry: AuditEntry,
        outcome: Outcome,
        error: TriviumError | None = None,
        *,
        status: int = HTTPStatus.OK,
    ) -> None:
        why = (call.told or "done") if error is None else f"{outcome.value}: {error.detail}"
        details: dict[str, object] = {
            "status": int(status) if error is None else status_of(error),
            **call.remarks,
        }
        if error is not None:
            details["code"] = error.code
        about = {name: one for name, one in call.about.items() if name in ID_PREFIXES}
        await self._audit.settle(entry, outcome, why, details, about)


def outcome_of(status: int) -> Outcome:
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Outcome.FAILED
    return Outcome.REFUSED if status >= HTTPStatus.BAD_REQUEST else Outcome.DONE
