"""Where the streams of open payment pages are: bounded in all and per address, ended at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from actors.gate import host_of, is_loopback, network_of
from api.rest.problems import Problem, problem


class LiveRoom:
    """Streams of `/pay/{order}/live`."""

    def __init__(self, *, streams: int, per_address: int) -> None:
        """At most so many at a time, and of one address (of IPv6: of one /64 network).

        Loopback is no address: a proxy there would make all of its clients one.
        """
        self._max_streams = streams
        self._max_per_address = per_address
        self._streams: set[trio.CancelScope] = set()
        self._by_address: Counter[str] = Counter()
        self._closed = False

    @property
    def streams(self) -> int:
        return len(self._streams)

    @property
    def addresses(self) -> int:
        return len(self._by_address)

    def close(self) -> None:
        """End every stream now, and every later one at once."""
        self._closed = True
        for scope in tuple(self._streams):
            scope.cancel()

    def full(self, address: str) -> Problem | None:
        """Why there is no room for one more of this caller (`host:port`)."""
        if len(self._streams) >= self._max_streams:
            return problem(
                "TOO_MANY_WAITING",
                f"{self._max_streams} payment pages are followed, which is the limit.",
            )
        who = _counted(address)
        if who is not None and self._by_address[who] >= self._max_per_address:
            return problem(
                "TOO_MANY_WAITING",
                f"{self._max_per_address} payment pages are followed from {who}, which is the"
                " limit for one address.",
            )
        return None

    @contextmanager
    def streaming(self, address: str) -> Iterator[None]:
        """The block is a stream of this caller: left when the room is closed."""
        who = _counted(address)
        scope = trio.CancelScope()
        self._streams.add(scope)
        if who is not None:
            self._by_address[who] += 1
        if self._closed:
            scope.cancel()
        try:
            with scope:
                yield
        finally:
            self._streams.discard(scope)
            if who is not None:
                self._by_address[who] -= 1
                if not self._by_address[who]:
                    del self._by_address[who]


def _counted(address: str) -> str | None:
    host = host_of(address)
    return None if is_loopback(host) else network_of(host)
