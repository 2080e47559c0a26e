"""Hearing what other processes notify, over losses of the connection it comes by.

A notification only says that it is worth while to look into the tables: it may be lost, and it may
come twice. Whoever waits on a bell is also woken every POLL_S.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import trio
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from daemon.logging import get_logger
from daemon.store.database import PostgresDatabase
from daemon.store.errors import explain

POLL_S = 1.0
"""How long news of which the notification was lost wait at most."""

_log = get_logger("store")


class Bell:
    """Wakes one task; rung while nobody waits, it is heard by who comes next."""

    def __init__(self) -> None:
        self._rung = trio.Event()

    def ring(self) -> None:
        self._rung.set()

    async def wait(self) -> bool:
        """Until it is rung, or POLL_S; whether it was rung."""
        with trio.move_on_after(POLL_S):
            await self._rung.wait()
        rung = self._rung.is_set()
        if rung:
            self._rung = trio.Event()
        return rung


class Listener:
    """One connection that listens, and who is told. Belongs to the Trio thread."""

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database
        self._told: dict[str, list[Callable[[], None]]] = {}
        self.connections = 0
        """How often it has connected."""

    @contextmanager
    def telling(self, what: str, listener: Callable[[], None]) -> Iterator[None]:
        """Call `listener` when `what` was notified, and whenever that may have been missed."""
        listeners = self._told.setdefault(what, [])
        listeners.append(listener)
        try:
            yield
        finally:
            listeners.remove(listener)
            if not listeners:
                del self._told[what]

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen until cancelled. `started`: nothing that is notified from now on goes unheard.

        Whatever keeps us from it is said, and tried again: the tables are looked at all the same.
        """
        while True:
            try:
                connection = await trio.to_thread.run_sync(self._database.listen)
            except DBAPIError as error:
                failure = explain(error, self._database.url)
                if failure is None:
                    raise
                _log.warning("cannot listen to the database", error=str(failure))
                await trio.sleep(POLL_S)
                continue
            self.connections += 1
            try:
                self._tell_everybody()
                task_status.started()
                task_status = trio.TASK_STATUS_IGNORED
                await self._listen(connection)
            finally:
                # It may be broken: no farewell is to be tried on it.
                connection.invalidate()
                connection.close()

    async def _listen(self, connection: Connection) -> None:
        """Until the connection fails."""
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        while True:
            await trio.lowlevel.wait_readable(driver.fileno())
            try:
                driver.pgconn.consume_input()
            except psycopg.OperationalError as error:
                _log.warning("the connection that listens to the database broke", error=str(error))
                return
            while (notice := driver.pgconn.notifies()) is not None:
                for listener in tuple(self._told.get(notice.extra.decode(), ())):
                    listener()

    def _tell_everybody(self) -> None:
        for listeners in tuple(self._told.values()):
            for listener in tuple(listeners):
                listener()
