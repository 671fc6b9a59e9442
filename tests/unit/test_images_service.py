"""Image tokens open one image for one session for a time, and cannot be made by others."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.errors import NotSignedInError
from broker.domain.model import Image
from broker.imaging.simulated import SimulatedImages
from broker.services.images import Images
from tests.support.builders import NOW

MIB = 2**20


def make_image(image_id: str = "img_1") -> Image:
    return Image(
        id=image_id,
        name="win",
        version=1,
        size_bytes=5 * MIB + 1,
        boot_bytes=2 * MIB,
        created_at=NOW,
    )


def make_images(key: bytes = b"key") -> Images:
    return Images(SimulatedImages(), key)


def test_a_token_opens_its_image_until_it_ends() -> None:
    images = make_images()
    token = images.token(make_image(), "ses_1", NOW + 1000)
    assert images.check(token, "img_1", NOW) == "ses_1"
    with pytest.raises(NotSignedInError):
        images.check(token, "img_1", NOW + 1000)
    with pytest.raises(NotSignedInError):
        images.check(token, "img_2", NOW)


def test_a_token_of_another_installation_opens_nothing() -> None:
    token = make_images(b"other").token(make_image(), "ses_1", NOW + 1000)
    with pytest.raises(NotSignedInError):
        make_images().check(token, "img_1", NOW)


@given(st.integers(0, 200), st.integers(1, 255))
def test_no_changed_byte_goes_unseen(place: int, change: int) -> None:
    images = make_images()
    token = images.token(make_image(), "ses_1", NOW + 1000)
    raw = bytearray(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    raw[place % len(raw)] ^= change
    forged = base64.urlsafe_b64encode(bytes(raw)).decode().rstrip("=")
    with pytest.raises(NotSignedInError):
        images.check(forged, "img_1", NOW)


@given(st.text(max_size=200))
def test_any_text_is_refused_and_nothing_else_happens(text: str) -> None:
    with pytest.raises(NotSignedInError):
        make_images().check(text, "img_1", NOW)


def test_a_streamed_boot_needs_fewer_segments_than_a_copy() -> None:
    images = make_images()
    whole = images.manifest(make_image(), boot_only=False)
    boot = images.manifest(make_image(), boot_only=True)
    assert (whole.segments, whole.boot_segments) == (6, 2)
    assert len(whole.digests) == 6
    assert boot.digests == whole.digests[:2]
