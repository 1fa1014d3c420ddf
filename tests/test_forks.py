"""Forks: a few branches of a tree of calls beside each other, and never one that waits for itself."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from gputiles.forks import Forks


class Tree:
    """Calls of calls, ``breadth`` of each, which tell how many leaves were open at once."""

    def __init__(self, forks: Forks, breadth: int, depth: int) -> None:
        self._forks = forks
        self._breadth = breadth
        self._depth = depth
        self._open = 0
        self.most = 0
        self.leaves: list[tuple[int, ...]] = []

    async def grow(self, place: tuple[int, ...] = ()) -> list[tuple[int, ...]]:
        """Return the places of all leaves."""
        if len(place) < self._depth:
            calls = [partial(self.grow, (*place, at)) for at in range(self._breadth)]
            return [leaf for leaves in await self._forks.run(calls) for leaf in leaves]
        self._open += 1
        self.most = max(self.most, self._open)
        self.leaves.append(place)
        await asyncio.sleep(0.001)
        self._open -= 1
        return [place]


@pytest.mark.parametrize(("most", "depth"), [(0, 1), (0, 3), (1, 2), (3, 3), (100, 2)])
async def test_a_tree_grows_with_as_many_branches_at_once_as_there_are_forks(most: int, depth: int) -> None:
    tree = Tree(Forks(most, lambda: True), 4, depth)
    assert await asyncio.wait_for(tree.grow(), 30) == sorted(tree.leaves)
    assert len(tree.leaves) == 4**depth
    assert tree.most == min(1 + most, 4**depth)


async def test_without_room_branches_grow_one_after_the_other_in_order() -> None:
    tree = Tree(Forks(5, lambda: False), 3, 2)
    await tree.grow()
    assert (tree.most, tree.leaves) == (1, sorted(tree.leaves))


async def test_a_fork_that_is_given_back_opens_the_next_branch_while_the_first_still_grows() -> None:
    ends = [asyncio.Event() for _ in range(4)]
    begun: list[int] = []

    async def branch(number: int) -> int:
        begun.append(number)
        await ends[number].wait()
        return number

    forks = Forks(1, lambda: True)
    growing = asyncio.create_task(forks.run([partial(branch, number) for number in range(4)]))
    for number in (1, 2):
        await asyncio.sleep(0.01)
        assert begun == list(range(number + 1))
        ends[number].set()
    ends[0].set()
    ends[3].set()
    assert await asyncio.wait_for(growing, 30) == [0, 1, 2, 3]


@pytest.mark.parametrize("failing", range(3))
async def test_the_first_failure_ends_all_branches_and_gives_their_forks_back(failing: int) -> None:
    forks, cancelled = Forks(2, lambda: True), []

    async def branch(number: int) -> None:
        try:
            await asyncio.sleep(0.01 if number == failing else 60)
        except asyncio.CancelledError:
            cancelled.append(number)
            raise
        raise ValueError(number)

    with pytest.raises(ValueError, match=str(failing)):
        await asyncio.wait_for(forks.run([partial(branch, number) for number in range(3)]), 30)
    assert sorted(cancelled) == [number for number in range(3) if number != failing]
    tree = Tree(forks, 4, 1)
    await tree.grow()
    assert tree.most == 3
