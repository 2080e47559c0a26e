"""Reading ahead: in order, bounded, and over when its reader is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from actors.core.chain_view import BlockRef
from actors.ports import TransientError
from daemon.drivers.blocks_ahead import BlocksAhead
from tests.helpers.invoices import block


class One(NamedTuple):
    ref: BlockRef


class Chain:
    """Gives two blocks at a time, up to a height, then nothing or a failure."""

    def __init__(self, height: int, *, fails: bool = False, broken_at: int | None = None) -> None:
        self.blocks = [
            One(block(n, branch="other" if broken_at is not None and n >= broken_at else ""))
            for n in range(1, height + 1)
        ]
        self.fails = fails
        self.fetched = 0
        self.prepared: list[int] = []

    async def fetch(self) -> list[One]:
        await trio.lowlevel.checkpoint()
        batch = self.blocks[self.fetched : self.fetched + 2]
        self.fetched += len(batch)
        if not batch and self.fails:
            raise TransientError("the node is away")
        return batch

    async def prepare(self, batch: list[One]) -> None:
        await trio.lowlevel.checkpoint()
        self.prepared += [one.ref.height for one in batch]


async def heights(blocks: BlocksAhead[One]) -> list[int]:
    found = []
    while (one := await blocks.next()) is not None:
        found.append(one.ref.height)
    return found


@asynccontextmanager
async def spawning(ahead: bool) -> AsyncIterator[object]:
    """What starts tasks, and waits for them in the end: they must end by themselves."""
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            yield nursery.start_soon if ahead else None


@pytest.mark.parametrize("ahead", [False, True])
async def test_blocks_come_in_order_and_prepared(ahead):
    chain = Chain(7)
    async with spawning(ahead) as spawn:
        assert await heights(BlocksAhead(chain.fetch, chain.prepare, spawn=spawn)) == [*range(1, 8)]
    assert chain.prepared == [*range(1, 8)]
    async with spawning(ahead) as spawn:
        assert await heights(BlocksAhead(Chain(3).fetch, spawn=spawn)) == [1, 2, 3]


@pytest.mark.parametrize("ahead", [False, True])
async def test_they_end_where_one_does_not_follow_the_one_before(ahead):
    chain = Chain(9, broken_at=4)
    async with spawning(ahead) as spawn:
        blocks = BlocksAhead(chain.fetch, chain.prepare, spawn=spawn)
        assert await heights(blocks) == [1, 2, 3]
        blocks.close()
        blocks.close()


@pytest.mark.parametrize("ahead", [False, True])
async def test_a_failure_comes_after_the_blocks_before_it(ahead):
    chain = Chain(3, fails=True)
    async with spawning(ahead) as spawn:
        blocks = BlocksAhead(chain.fetch, chain.prepare, spawn=spawn)
        assert [(await blocks.next()).ref.height for _ in range(3)] == [1, 2, 3]
        with pytest.raises(TransientError, match="the node is away"):
            await blocks.next()


async def test_no_more_is_read_ahead_than_one_batch_prepared_and_one_fetched():
    chain = Chain(100)
    async with spawning(ahead=True) as spawn:
        blocks = BlocksAhead(chain.fetch, chain.prepare, spawn=spawn)
        await blocks.next()
        await wait_all_tasks_blocked()
        assert (len(chain.prepared), chain.fetched) == (4, 6)
        blocks.close()


async def test_a_reader_that_is_left_in_the_middle_ends_what_reads_ahead():
    chain = Chain(100)
    async with spawning(ahead=True) as spawn:
        blocks = BlocksAhead(chain.fetch, chain.prepare, spawn=spawn)
        await blocks.next()
        del blocks
    assert chain.fetched < 100
