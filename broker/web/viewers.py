"""Answers with a connection file, for the API and the console alike."""

from __future__ import annotations

from aiohttp import hdrs, web

from broker.domain.viewers import ViewerKind
from broker.web.call import Call
from broker.web.connection_files import Reach, connection_file


async def answer_with_file(call: Call, session_id: str, kind: ViewerKind) -> web.Response:
    """A new pass for the caller's own session, as a file to be saved. Raises as
    Viewers.issue."""
    call.about["session_id"] = session_id
    call.remarks["kind"] = kind
    services, config = call.web.services, call.web.config
    given = await services.viewers.issue(call.who, session_id, kind)
    session = await services.sessions.get(call.who, session_id)
    pool = await services.pools.find(session.pool_id)
    reach = Reach(
        host=config.viewer_host,
        port=services.viewers.doors[kind],
        title=pool.title,
        username=call.who.username,
        tls=config.viewer_cert is not None,
        channels=pool.settings.channels,
    )
    file = connection_file(given, reach, pool.name)
    headers = call.headers()
    headers[hdrs.CONTENT_TYPE] = file.media_type
    headers[hdrs.CONTENT_DISPOSITION] = f'attachment; filename="{file.name}"'
    return web.Response(body=file.text.encode(), headers=headers)
