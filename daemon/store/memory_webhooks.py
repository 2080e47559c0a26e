"""`actors.webhook_book.WebhookBook` in memory; each write happens as a whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from uuid import UUID

import trio

from actors.core.webhook import Health
from actors.ports import LogEntry
from actors.webhook_book import Attempt, Endpoint, LoggedAttempt, Owed, Owing, Progress


class MemoryWebhooks:
    """The part of `MemoryStore` that keeps webhooks."""

    def __init__(
        self, *, log: Callable[[], Sequence[LogEntry]], user_of: Callable[[UUID], UUID]
    ) -> None:
        """`log` is the event log, `user_of` says whose an invoice is."""
        self._event_log = log
        self._user_of = user_of
        self._endpoints: dict[UUID, Endpoint] = {}
        self._owed: dict[UUID, dict[int, Owed]] = {}
        self._log: dict[UUID, list[LoggedAttempt]] = {}
        self._next_id = 1

    async def add_endpoint(self, endpoint: Endpoint, *, most: int) -> bool:
        await trio.lowlevel.checkpoint()
        if len(self._endpoints) >= most:
            return False
        self._endpoints[endpoint.id] = endpoint
        return True

    async def endpoint(self, endpoint_id: UUID) -> Endpoint | None:
        await trio.lowlevel.checkpoint()
        return self._endpoints.get(endpoint_id)

    async def endpoints(self, user_id: UUID | None = None) -> tuple[Endpoint, ...]:
        await trio.lowlevel.checkpoint()
        found = [
            one for one in self._endpoints.values() if user_id is None or one.user_id == user_id
        ]
        return tuple(sorted(found, key=lambda one: (one.created_at_ms, one.id)))

    async def change_endpoint(self, endpoint: Endpoint) -> bool:
        await trio.lowlevel.checkpoint()
        if endpoint.id not in self._endpoints:
            return False
        self._endpoints[endpoint.id] = endpoint
        return True

    async def remove_endpoint(self, endpoint_id: UUID) -> bool:
        await trio.lowlevel.checkpoint()
        self._owed.pop(endpoint_id, None)
        self._log.pop(endpoint_id, None)
        return self._endpoints.pop(endpoint_id, None) is not None

    async def record(
        self, endpoint_id: UUID, progress: Progress, *, cursor: int, health: Health
    ) -> None:
        await trio.lowlevel.checkpoint()
        endpoint = self._endpoints.get(endpoint_id)
        if endpoint is None:
            return
        self._endpoints[endpoint_id] = replace(endpoint, cursor=cursor, health=health)
        rows = self._owed.setdefault(endpoint_id, {})
        for seq in progress.settled:
            rows.pop(seq, None)
        rows |= progress.owed
        self._note(endpoint_id, progress.attempts)

    async def owed(self, endpoint_id: UUID, *, dead: bool, limit: int) -> tuple[Owed, ...]:
        await trio.lowlevel.checkpoint()
        rows = self._owed.get(endpoint_id, {}).values()
        found = sorted((one for one in rows if one.dead is dead), key=lambda one: one.seq)
        return tuple(found[:limit])

    async def owing(self, endpoint_id: UUID) -> Owing:
        await trio.lowlevel.checkpoint()
        rows = self._owed.get(endpoint_id, {}).values()
        dead = sum(one.dead for one in rows)
        return Owing(waiting=len(rows) - dead, dead=dead)

    async def owe(self, endpoint_id: UUID, rows: Sequence[Owed]) -> None:
        await trio.lowlevel.checkpoint()
        mine = self._owed.setdefault(endpoint_id, {})
        mine |= {one.seq: one for one in rows}

    async def bury(self, endpoint_id: UUID, *, error: str) -> int:
        await trio.lowlevel.checkpoint()
        rows = self._owed.get(endpoint_id, {})
        waiting = {seq: one for seq, one in rows.items() if not one.dead}
        rows |= {seq: replace(one, dead=True, error=error) for seq, one in waiting.items()}
        return len(waiting)

    async def matching(
        self,
        *,
        user_id: UUID | None,
        types: tuple[str, ...],
        since_ms: int,
        until_ms: int,
        up_to_seq: int,
        limit: int,
    ) -> tuple[tuple[int, UUID, int], ...]:
        await trio.lowlevel.checkpoint()
        found = [
            (one.seq, one.invoice_id, one.event.at_ms)
            for one in self._event_log()[: max(0, up_to_seq)]
            if since_ms <= one.event.at_ms < until_ms
            and (user_id is None or self._user_of(one.invoice_id) == user_id)
            and (not types or one.event.kind in types)
        ]
        return tuple(found[:limit])

    async def log_attempts(self, endpoint_id: UUID, attempts: Sequence[Attempt]) -> None:
        await trio.lowlevel.checkpoint()
        if endpoint_id in self._endpoints:
            self._note(endpoint_id, attempts)

    def _note(self, endpoint_id: UUID, attempts: Sequence[Attempt]) -> None:
        log = self._log.setdefault(endpoint_id, [])
        for attempt in attempts:
            log.append(LoggedAttempt(self._next_id, attempt))
            self._next_id += 1

    async def attempts(
        self, endpoint_id: UUID, *, before: int | None, limit: int
    ) -> tuple[LoggedAttempt, ...]:
        await trio.lowlevel.checkpoint()
        log = self._log.get(endpoint_id, [])
        found = [one for one in reversed(log) if before is None or one.id < before]
        return tuple(found[:limit])

    async def forget_attempts(self, endpoint_id: UUID, *, before_ms: int, keep: int) -> int:
        await trio.lowlevel.checkpoint()
        rows = self._owed.get(endpoint_id, {})
        for seq in [seq for seq, one in rows.items() if one.dead and one.at_ms < before_ms]:
            del rows[seq]
        log = self._log.get(endpoint_id, [])
        kept = [one for one in log if one.attempt.at_ms >= before_ms]
        kept = kept[max(0, len(kept) - keep) :]
        self._log[endpoint_id] = kept
        return len(log) - len(kept)
