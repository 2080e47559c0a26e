"""One at a time for each key, for as long as what it stands for is being made."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

import trio

K = TypeVar("K", bound=Hashable)


class Turns(Generic[K]):
    """Who has the turn of which key. Belongs to the Trio thread."""

    def __init__(self) -> None:
        self._at_work: dict[K, trio.Event] = {}

    @asynccontextmanager
    async def turn(
        self, key: K, *, wait_s: float = math.inf, most: float = math.inf
    ) -> AsyncIterator[bool]:
        """Whether the block has its turn, which then ends with it.

        It has not if another had the key for `wait_s`, or if `most` others are at work.
        """
        with trio.move_on_after(wait_s):
            while (event := self._at_work.get(key)) is not None:
                await event.wait()
        if key in self._at_work or len(self._at_work) >= most:
            yield False
            return
        done = self._at_work[key] = trio.Event()
        try:
            yield True
        finally:
            del self._at_work[key]
            done.set()
