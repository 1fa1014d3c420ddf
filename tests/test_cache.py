"""Shelves: weight, fairness, pins and flights."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gputiles.cache import Hold, Shelf


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def shelf(capacity: int, **kwargs: object) -> Shelf[str]:
    return Shelf("test", capacity, **kwargs)  # type: ignore[arg-type]


def test_the_least_recently_used_entry_leaves_first() -> None:
    cache = shelf(3)
    for key in "abc":
        cache.put(key, key, 1, "image")
    cache.get("a")
    cache.put("d", "d", 1, "image")
    assert [key for key in "abcd" if cache.peek(key)] == ["a", "c", "d"]
    assert cache.evictions == 1


def test_a_pinned_entry_is_skipped_until_it_is_released() -> None:
    cache = shelf(2)
    with Hold(cache) as hold:
        hold.pin(cache.put("a", "a", 1, "image"))
        cache.put("b", "b", 1, "image")
        cache.put("c", "c", 1, "image")
        assert cache.peek("a") is not None
        assert cache.peek("b") is None
    cache.put("d", "d", 1, "image")
    cache.put("e", "e", 1, "image")
    assert cache.peek("a") is None


def test_what_is_larger_than_the_shelf_is_handed_out_but_not_stored() -> None:
    gone: list[str] = []
    cache = shelf(2, dispose=gone.append)
    with Hold(cache) as hold:
        entry = hold.pin(cache.put("big", "big", 5, "image"))
        assert (entry.value, cache.peek("big"), cache.used) == ("big", None, 5)
    assert (cache.used, gone) == (0, ["big"])


def test_values_that_are_put_together_do_not_make_room_for_each_other() -> None:
    cache = shelf(4)
    for key in "abc":
        cache.put(key, key, 1, "image")
    entries = cache.put_all(
        [("a", "A", 1), ("d", "D", 1), ("big", "BIG", 5), ("e", "E", 2)], "image", cold=True
    )
    assert [entry.value for entry in entries] == ["A", "D", "BIG", "E"]
    assert [key for key in ("a", "b", "c", "d", "e", "big") if cache.peek(key)] == ["a", "d", "e"]
    assert (cache.stored, cache.used, cache.evictions, cache.pinned) == (4, 9, 2, 0)
    assert not any(entry.asked or entry.pins for entry in entries)
    with Hold(cache) as hold:
        hold.pin_all(entries)
    assert cache.used == 4
    assert cache.put_all([], "nobody") == []
    assert cache.weights() == {"image": 4}


def test_an_evicted_value_is_disposed_of_when_its_last_pin_goes() -> None:
    gone: list[str] = []
    cache = shelf(1, dispose=gone.append)
    with Hold(cache) as hold:
        hold.pin(cache.put("a", "a", 1, "image"))
        cache.discard("a")
        assert gone == []
        assert cache.used == 1
    assert gone == ["a"]
    assert cache.used == 0


@pytest.mark.parametrize("cold", [False, True])
def test_all_that_an_image_has_is_forgotten_and_what_is_pinned_when_its_last_pin_goes(cold: bool) -> None:
    gone: list[str] = []
    cache = shelf(9, dispose=gone.append)
    cache.put("other", "other", 2, "other image")
    with Hold(cache) as hold:
        for key in "abc":
            cache.put(key, key, 1, "image", cold=cold)
        hold.pin(cache.put("d", "d", 3, "image"))
        cache.forget("image")
        assert [key for key in ("a", "b", "c", "d", "other") if cache.peek(key)] == ["other"]
        assert sorted(gone) == ["a", "b", "c"]
        assert (cache.stored, cache.used, cache.weights()) == (2, 5, {"other image": 2})
        cache.put("a", "again", 1, "image")
    assert sorted(gone) == ["a", "b", "c", "d"]
    assert (cache.stored, cache.used, cache.weights()) == (3, 3, {"other image": 2, "image": 1})
    cache.forget("nobody")


def test_the_image_most_above_its_share_gives_and_the_other_keeps_its_tiles() -> None:
    cache = shelf(100)
    for i in range(10):
        cache.put(("b", i), "tile", 1, "b")
    for i in range(1000):
        cache.put(("a", i), "tile", 1, "a")
    assert all(cache.peek(("b", i)) for i in range(10))
    assert cache.used == 100


def test_an_active_image_keeps_a_floor_and_an_idle_one_does_not() -> None:
    clock = Clock()
    cache = shelf(10, clock=clock, active_seconds=60)
    for i in range(5):
        cache.put(("b", i), "tile", 1, "b")
    clock.now = 30
    for i in range(10):
        cache.put(("a", i), "tile", 1, "a")
    kept = sum(cache.peek(("b", i)) is not None for i in range(5))
    assert kept == 5
    clock.now = 1000
    cache.get(("a", 9))
    for i in range(20):
        cache.put(("c", i), "tile", 1, f"c{i}")
    assert sum(cache.peek(("b", i)) is not None for i in range(5)) < 5


def test_what_came_in_passing_leaves_before_what_was_asked_for() -> None:
    cache = shelf(4)
    cache.put("asked", "x", 1, "image")
    for i in range(10):
        cache.put(i, "x", 1, "image", cold=True)
    assert cache.peek("asked") is not None
    cache.get(9)
    for i in range(20, 30):
        cache.put(i, "x", 1, "image", cold=True)
    assert cache.peek(9) is not None


def test_a_walk_over_many_files_does_not_push_out_a_handle_in_use() -> None:
    cache = shelf(10)
    cache.put("viewer", "handle", 1, "sources", cold=True)
    cache.get("viewer")
    for i in range(2000):
        cache.put(i, "handle", 1, "sources", cold=True)
    assert cache.peek("viewer") is not None


def test_reserved_bytes_make_room_before_the_work() -> None:
    cache = shelf(10)
    for i in range(10):
        cache.put(i, "x", 1, "image")
    with cache.reserve(4):
        assert cache.used == 10
        assert cache.stored == 6
    assert cache.used == 6
    assert cache.peak == 10


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(1, 30), st.integers(0, 3), st.booleans()), max_size=80)
)
def test_the_books_always_balance(puts: list[tuple[int, int, int, bool]]) -> None:
    gone: list[str] = []
    cache = shelf(50, dispose=gone.append)
    for key, weight, owner, cold in puts:
        cache.put((owner, key), "value", weight, owner, cold=cold)
        cache.get((owner, (key * 7) % 20))
        entries = [e for o in range(4) for k in range(21) if (e := cache.peek((o, k)))]
        assert cache.used == cache.stored == sum(entry.weight for entry in entries) <= 50
    cache.clear()
    assert cache.used == 0
    assert len(gone) == len(puts)


async def test_equal_requests_share_one_flight() -> None:
    cache = shelf(10)
    runs = 0

    async def make(_: Hold[str]) -> str:
        nonlocal runs
        runs += 1
        await asyncio.sleep(0)
        return "made"

    async def ask() -> str:
        async with cache.once("key", make) as value:
            return value

    assert await asyncio.gather(*(ask() for _ in range(64))) == ["made"] * 64
    assert (runs, cache.flying.coalesced, cache.flights) == (1, 63, 0)


async def test_a_failure_reaches_all_waiters_and_is_not_kept() -> None:
    cache = shelf(10)
    runs = 0

    async def make(_: Hold[str]) -> str:
        nonlocal runs
        runs += 1
        await asyncio.sleep(0)
        raise ValueError(f"run {runs}")

    async def ask() -> None:
        async with cache.once("key", make):
            pass

    outcomes = await asyncio.gather(*(ask() for _ in range(3)), return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["run 1"] * 3
    with pytest.raises(ValueError, match="run 2"):
        await ask()


async def test_a_cancelled_first_waiter_does_not_hurt_the_second() -> None:
    cache = shelf(10)
    gate = asyncio.Event()

    async def make(_: Hold[str]) -> str:
        await gate.wait()
        return "made"

    async def ask() -> str:
        async with cache.once("key", make) as value:
            return value

    first, second = asyncio.create_task(ask()), asyncio.create_task(ask())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    gate.set()
    assert await second == "made"
    assert first.cancelled()


async def test_the_last_waiter_to_leave_cancels_the_flight_and_its_pins() -> None:
    cache = shelf(10)
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def make(hold: Hold[str]) -> str:
        hold.pin(cache.put("part", "part", 1, "image"))
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return "never"

    async def ask() -> None:
        async with cache.once("key", make):
            pass

    waiters = [asyncio.create_task(ask()) for _ in range(3)]
    await started.wait()
    for waiter in waiters:
        waiter.cancel()
    await asyncio.gather(*waiters, return_exceptions=True)
    await asyncio.wait_for(cancelled.wait(), 5)
    await asyncio.sleep(0)
    entry = cache.peek("part")
    assert entry is not None
    assert (entry.pins, cache.flights) == (0, 0)


async def test_what_a_flight_pinned_stays_until_each_waiter_has_taken_it() -> None:
    cache = shelf(1)

    async def make(hold: Hold[str]) -> str:
        hold.pin(cache.put("tile", "tile", 1, "image"))
        cache.put("other", "other", 1, "other image")  # would evict it
        return "done"

    async with cache.once("key", make):
        entry = cache.peek("tile")
        assert entry is not None
        assert entry.pins == 1
    assert entry.pins == 0


async def test_many_keys_share_the_runs_under_way_and_one_for_the_rest() -> None:
    cache, runs = shelf(10), []
    gate = asyncio.Event()

    async def make(keys: Sequence[str], _: Hold[str]) -> str:
        runs.append(tuple(keys))
        await gate.wait()
        return "+".join(keys)

    async def ask(*keys: str) -> list[str]:
        async with cache.once_each(keys, make) as results:
            return results

    asked = [asyncio.create_task(ask(*keys)) for keys in ("ab", "bcd", "d", "ca")]
    await asyncio.sleep(0)
    gate.set()
    assert await asyncio.gather(*asked) == [["a+b"] * 2, ["a+b", "c+d", "c+d"], ["c+d"], ["c+d", "a+b"]]
    assert runs == [("a", "b"), ("c", "d")]
    assert (cache.flying.coalesced, cache.flights) == (4, 0)


async def test_one_of_many_runs_that_fails_lets_the_others_go() -> None:
    cache, left = shelf(10), asyncio.Event()

    async def fail(keys: Sequence[str], _: Hold[str]) -> str:
        await asyncio.sleep(0)
        raise ValueError(keys[0])

    async def wait(keys: Sequence[str], hold: Hold[str]) -> str:
        hold.pin(cache.put(keys[0], keys[0], 1, "image"))
        try:
            await asyncio.Event().wait()
        finally:
            left.set()
        return "never"

    async def ask(make: Callable[[Sequence[str], Hold[str]], Awaitable[str]], *keys: str) -> None:
        async with cache.once_each(keys, make):
            pass

    first = asyncio.create_task(ask(fail, "a"))
    await asyncio.sleep(0)
    with pytest.raises(ValueError, match="a"):
        await ask(wait, "a", "b", "c")
    await asyncio.wait_for(left.wait(), 5)
    await asyncio.gather(first, return_exceptions=True)
    entry = cache.peek("b")
    assert entry is not None
    assert (entry.pins, cache.flights) == (0, 0)
