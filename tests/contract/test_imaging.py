"""What every image source owes: the same bytes every time, whole, in pieces, with true digests."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.domain.errors import NotFoundError
from broker.domain.model import Image
from broker.imaging.simulated import SimulatedImages
from broker.limits import IMAGES_REMEMBERED, SEGMENT_BYTES
from broker.ports import ImageSource

IMAGE = Image(
    id="img_1", name="school", version=3, size_bytes=3 * SEGMENT_BYTES + 1000,
    boot_bytes=SEGMENT_BYTES + 1, created_at=0,
)  # fmt: skip

SOURCES: list[Callable[[], ImageSource]] = [SimulatedImages]


@pytest.fixture(params=SOURCES, ids=lambda make: make.__name__)
def source(request: pytest.FixtureRequest) -> ImageSource:
    made: ImageSource = request.param()
    return made


def whole(source: ImageSource, image: Image) -> list[bytes]:
    return [source.segment(image, n) for n in range(source.segments(image, boot_only=False))]


def test_the_segments_are_the_image_and_no_larger_than_the_limit(source: ImageSource) -> None:
    sizes = [len(segment) for segment in whole(source, IMAGE)]
    assert sizes == [SEGMENT_BYTES] * 3 + [1000]


def test_a_streamed_boot_reads_the_first_segments(source: ImageSource) -> None:
    assert source.segments(IMAGE, boot_only=True) == 2
    assert source.segments(replace(IMAGE, boot_bytes=10**12), boot_only=True) == 4


def test_another_source_gives_the_same_bytes_as_after_a_restart(source: ImageSource) -> None:
    again = type(source)()
    assert whole(again, IMAGE) == whole(source, IMAGE)


def test_every_digest_is_that_of_its_segment(source: ImageSource) -> None:
    for index, segment in enumerate(whole(source, IMAGE)):
        expected = hashlib.blake2b(segment, digest_size=16).hexdigest()
        assert source.digest(IMAGE, index) == expected


def test_no_two_segments_are_alike_not_even_those_of_another_version(
    source: ImageSource,
) -> None:
    versions = [IMAGE, replace(IMAGE, version=4), replace(IMAGE, id="img_2")]
    digests = [source.digest(image, index) for image in versions for index in range(4)]
    assert len(set(digests)) == 12


@pytest.mark.parametrize("index", [-1, 4, 10**9])
def test_past_either_end_there_is_nothing(source: ImageSource, index: int) -> None:
    with pytest.raises(NotFoundError):
        source.segment(IMAGE, index)
    with pytest.raises(NotFoundError):
        source.digest(IMAGE, index)


# ------------------------------------------------------------------------- simulated images


def test_sizes_are_divided_by_the_scale_and_never_nothing() -> None:
    image = replace(IMAGE, size_bytes=40 * 10**9, boot_bytes=197 * 10**6)
    source = SimulatedImages(bytes_scale=1000)
    assert sum(len(segment) for segment in whole(source, image)) == 40 * 10**6
    assert source.segments(image, boot_only=True) == 1
    tiny = SimulatedImages(bytes_scale=100_000)
    assert len(whole(tiny, replace(IMAGE, size_bytes=5))[0]) == 1


@settings(max_examples=30)
@given(
    size=st.integers(1, 3 * SEGMENT_BYTES),
    scale=st.integers(1, 1000),
    version=st.integers(1, 10**6),
)
def test_any_size_and_scale_gives_whole_segments_with_true_digests(
    size: int, scale: int, version: int
) -> None:
    source = SimulatedImages(bytes_scale=scale)
    image = replace(IMAGE, size_bytes=size, version=version)
    segments = whole(source, image)
    assert sum(len(segment) for segment in segments) == max(size // scale, 1)
    assert [source.digest(image, index) for index in range(len(segments))] == [
        hashlib.blake2b(segment, digest_size=16).hexdigest() for segment in segments
    ]


def test_what_is_remembered_of_images_is_bounded() -> None:
    source = SimulatedImages()
    for number in range(IMAGES_REMEMBERED + 5):
        source.digest(replace(IMAGE, version=number), 0)
    assert len(source._bodies) == IMAGES_REMEMBERED
