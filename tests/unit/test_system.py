"""Ids sort by the time they were made and are never the same; secrets are long enough."""

from __future__ import annotations

import threading

from broker.system import SystemChance, SystemIds


def test_ids_of_one_process_are_in_order_and_unique_over_threads() -> None:
    ids = SystemIds()
    made: list[list[str]] = [[] for _ in range(4)]

    def make(into: list[str]) -> None:
        into.extend(ids.new("ses") for _ in range(2_000))

    threads = [threading.Thread(target=make, args=(one,)) for one in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in made:
        assert one == sorted(one)
    everything = [one for part in made for one in part]
    assert len(set(everything)) == len(everything)


def test_ids_of_two_processes_do_not_meet() -> None:
    first, second = SystemIds(), SystemIds()
    assert not {first.new("x") for _ in range(500)} & {second.new("x") for _ in range(500)}


def test_a_secret_has_256_bits_and_fits_into_an_address() -> None:
    secret = SystemIds().secret()
    assert len(secret) == 43
    assert secret.replace("-", "").replace("_", "").isalnum()


def test_chance_with_a_seed_is_the_same_every_time() -> None:
    first, second = SystemChance(7), SystemChance(7)
    assert [first.uniform(0, 1) for _ in range(5)] == [second.uniform(0, 1) for _ in range(5)]
