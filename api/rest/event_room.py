"""Where streams of events and their waiting pollers are: bounded, and emptied when it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from api.rest.problems import problem


class EventRoom:
    """Streams and long-polls of `/v1/events`."""

    def __init__(self, *, streams: int, waiting: int) -> None:
        """At most so many of each at the same time."""
        self._max_streams = streams
        self._max_waiting = waiting
        self._streams: set[trio.CancelScope] = set()
        self._waiting: set[trio.CancelScope] = set()
        self._closed = False

    @property
    def streams(self) -> int:
        return len(self._streams)

    def close(self) -> None:
        """End every stream and wait now, and every later one at once."""
        self._closed = True
        for scope in (*self._streams, *self._waiting):
            scope.cancel()

    def check(self) -> None:
        """Raise Problem if there is no room for another stream."""
        if len(self._streams) >= self._max_streams:
            raise problem(
                "TOO_MANY_WAITING", f"{self._max_streams} streams are open, which is the limit."
            )

    @contextmanager
    def streaming(self) -> Iterator[None]:
        """The block is a stream: left when the room is closed."""
        with self._inside(self._streams, trio.CancelScope()):
            yield

    @contextmanager
    def waiting(self, wait_s: float) -> Iterator[None]:
        """The block is a wait: left when the time is up, or the room is closed.

        Raises Problem when too many wait already.
        """
        if len(self._waiting) >= self._max_waiting:
            raise problem(
                "TOO_MANY_WAITING", f"{self._max_waiting} requests are waiting, which is the limit."
            )
        with self._inside(self._waiting, trio.move_on_after(wait_s)):
            yield

    @contextmanager
    def _inside(self, those: set[trio.CancelScope], scope: trio.CancelScope) -> Iterator[None]:
        those.add(scope)
        if self._closed:
            scope.cancel()
        try:
            with scope:
                yield
        finally:
            those.discard(scope)
