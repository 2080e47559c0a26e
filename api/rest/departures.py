"""Notices that peers have gone, for any number of connections with one task.

A connection that only sends would otherwise need a second task that waits to receive.
"""

from __future__ import annotations

import select
from collections.abc import Callable

import trio

_GONE = select.EPOLLRDHUP
"""The peer sends no more; errors and the end of the connection are reported unasked (epoll(7))."""


class Departures:
    """Connections that only send, and what is to be called when their peer is gone."""

    def __init__(self) -> None:
        self._epoll: select.epoll | None = None
        self._watched: dict[int, Callable[[], None]] = {}

    def __len__(self) -> int:
        return len(self._watched)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Notice until cancelled; from `started` on connections can be watched."""
        with select.epoll() as epoll:
            self._epoll = epoll
            task_status.started()
            try:
                while True:
                    await trio.lowlevel.wait_readable(epoll.fileno())
                    for fd, _ in epoll.poll(0):
                        gone = self._watched.pop(fd)
                        epoll.unregister(fd)
                        gone()
            finally:
                self._epoll = None

    def watch(self, fd: int, gone: Callable[[], None]) -> None:
        """Call `gone` once when the peer goes, until `forget`; `fd` is a connected socket's."""
        assert self._epoll is not None, "run() is running"
        self._epoll.register(fd, _GONE)
        self._watched[fd] = gone

    def forget(self, fd: int, gone: Callable[[], None]) -> None:
        """Watch no more. Closed meanwhile, its number may be another connection's by now."""
        if self._watched.get(fd) is not gone:
            return
        del self._watched[fd]
        if self._epoll is None:
            return
        try:
            self._epoll.unregister(fd)
        except OSError:
            # It is closed, and the kernel has forgotten it by itself.
            return
