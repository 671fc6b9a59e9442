"""Image caches: what is missing, what is remembered, what a new version costs."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import pytest

from agents.cache import DiskCache, ImageCache, SimulatedCache
from tests.support.agent_script import image

DATA = [bytes([number]) * 100 for number in range(8)]
DIGESTS = [blake2b(data, digest_size=16).digest() for data in DATA]


def simulated(*, warm: bool = False, stale: bool = False, delta: float = 0.1) -> SimulatedCache:
    return SimulatedCache(warm=warm, stale=stale, delta_share=delta)


def fill(cache: ImageCache, version: int = 1) -> None:
    for index, (digest, data) in enumerate(zip(DIGESTS, DATA, strict=True)):
        cache.keep(image(version=version), index, digest, data)
    cache.keep_image(image(version=version), b"".join(DIGESTS))


async def test_a_cold_cache_misses_all_until_it_was_given_them() -> None:
    cache = simulated()
    assert await cache.missing(image(), b"") == tuple(range(8))
    for index in (0, 1, 5):
        cache.keep(image(), index, b"", b"")
    assert await cache.missing(image(), b"") == (2, 3, 4, 6, 7)


async def test_a_warm_cache_misses_nothing_of_any_image() -> None:
    cache = simulated(warm=True)
    assert await cache.missing(image(), b"") == ()
    assert await cache.missing(image(version=7), b"") != ()  # that one is new since


async def test_a_stale_cache_misses_the_share_that_changed() -> None:
    big = image(version=3, segments=10_000)
    missing = await simulated(warm=True, stale=True).missing(big, b"")
    assert 900 < len(missing) < 1100
    assert missing == await simulated(warm=True, stale=True).missing(big, b"")
    assert list(missing) == sorted(missing)


async def test_each_version_further_costs_more_and_the_way_back_costs_the_same() -> None:
    def at(version: int) -> object:
        return image(version=version, segments=1000)

    near, far, back = simulated(warm=True), simulated(warm=True), simulated(warm=True)
    await near.missing(at(1), b"")  # type: ignore[arg-type]
    await far.missing(at(1), b"")  # type: ignore[arg-type]
    await back.missing(at(4), b"")  # type: ignore[arg-type]
    one = await near.missing(at(2), b"")  # type: ignore[arg-type]
    three = await far.missing(at(4), b"")  # type: ignore[arg-type]
    assert 60 < len(one) < 140
    assert 220 < len(three) < 320
    assert await back.missing(at(1), b"") == three  # type: ignore[arg-type]


async def test_a_fetch_that_was_cut_off_goes_on_where_it_stopped_at_the_next_version() -> None:
    cache = simulated()
    await cache.missing(image(segments=1000), b"")
    for index in range(500):
        cache.keep(image(segments=1000), index, b"", b"")
    missing = await cache.missing(image(version=2, segments=1000), b"")
    assert set(range(500, 1000)) <= set(missing)
    assert 520 < len(missing) < 590


async def test_versions_far_apart_are_answered_quickly_and_miss_nearly_all() -> None:
    cache = simulated(warm=True)
    await cache.missing(image(segments=100), b"")
    assert len(await cache.missing(image(version=2**60, segments=100), b"")) > 90


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[DiskCache]:
    cache = DiskCache(tmp_path / "cache")
    yield cache
    cache.close()


async def test_a_disk_holds_what_it_was_given(disk: DiskCache, tmp_path: Path) -> None:
    digests = b"".join(DIGESTS)
    assert await disk.missing(image(), digests) == tuple(range(8))
    fill(disk)
    assert await disk.missing(image(), digests) == ()
    again = DiskCache(tmp_path / "cache")
    assert await again.missing(image(), digests) == ()
    again.close()


async def test_damaged_and_lost_segments_are_missing(disk: DiskCache, tmp_path: Path) -> None:
    fill(disk)
    digests = b"".join(DIGESTS)
    await disk.missing(image(), digests)
    name = DIGESTS[3].hex()
    (tmp_path / "cache" / name[:2] / name).write_bytes(b"damaged")
    name = DIGESTS[6].hex()
    (tmp_path / "cache" / name[:2] / name).unlink()
    assert await disk.missing(image(), digests) == (3, 6)


async def test_what_only_an_older_version_needed_is_removed(
    disk: DiskCache, tmp_path: Path
) -> None:
    fill(disk)
    fill_other = DIGESTS[4:]
    disk.keep_image(image(version=2), b"".join(fill_other))
    assert await disk.missing(image(), b"".join(DIGESTS)) == (0, 1, 2, 3)
    held = {path.name for path in (tmp_path / "cache").glob("??/*")}
    assert held == {digest.hex() for digest in fill_other}


async def test_a_disk_that_cannot_be_written_is_a_cold_cache(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("a file is in the way")
    cache = DiskCache(tmp_path / "cache")
    fill(cache)
    assert await cache.missing(image(), b"".join(DIGESTS)) == tuple(range(8))
    cache.close()
    assert "could not be written" in caplog.text
