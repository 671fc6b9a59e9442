"""Orders and grants as messages of the endpoint protocol."""

from __future__ import annotations

from broker import limits, wire
from broker.domain.model import Image, Instant
from broker.ports import ConsentOrder, FreshOrder, NoticeOrder, Order, StartOrder, StopOrder
from broker.services.images import Images
from broker.services.sessions import Grant


def _image_ref(image: Image, segments: int, boot_segments: int) -> wire.ImageRef:
    return wire.ImageRef(
        image_id=image.id,
        name=image.name,
        version=image.version,
        segments=segments,
        boot_segments=boot_segments,
        segment_bytes=limits.SEGMENT_BYTES,
    )


def order_message(
    order: Order, images: Images, now: Instant
) -> wire.Start | wire.Stop | wire.MakeFresh | wire.Notice | wire.AskConsent:
    """The message that gives this order."""
    match order:
        case StopOrder():
            return wire.Stop(
                session_id=order.session_id,
                generation=order.generation,
                reason=order.reason,
                moved=order.moved,
            )
        case NoticeOrder(notice=notice):
            return wire.Notice(
                session_id=order.session_id,
                notice_id=notice.id,
                text=notice.text,
                sender=notice.sender,
            )
        case ConsentOrder(wish=wish):
            return wire.AskConsent(
                session_id=order.session_id,
                wish_id=wish.id,
                endpoint=order.endpoint_name,
                answer_within_s=max(wish.until - now, 0) / 1000,
            )
        case FreshOrder():
            return wire.MakeFresh(desktop_id=order.desktop_id, generation=order.generation)
        case StartOrder():
            return wire.Start(
                session_id=order.session.id,
                desktop_id=order.desktop.id,
                desktop_name=order.desktop.name,
                generation=order.session.generation,
                architecture=order.session.architecture,
                pool=order.pool.name,
                username=order.username,
                ticket=order.ticket,
                image=_image_ref(order.image, *images.sizes(order.image)),
            )


def grant_message(session_id: str, grant: Grant) -> wire.Grant:
    """The message that answers a ticket redeemed for `session_id`."""
    manifest = grant.manifest
    return wire.Grant(
        session_id=session_id,
        image=_image_ref(manifest.image, manifest.segments, manifest.boot_segments),
        image_token=grant.image_token,
        digests=manifest.digests,
        lease_until_ms=grant.lease_until,
    )
