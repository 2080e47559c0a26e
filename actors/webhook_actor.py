"""One endpoint's webhooks: read the log from its cursor, send, try again, never out of order.

Theory of operation
-------------------
Events are read from the outbox into lanes, one per invoice. The head of each lane is sent, a few
lanes at a time; the next of a lane goes out when the one before is taken or given up. What fails,
and what waits behind it in its lane, becomes a row of the store with the time of its next attempt;
all other lanes go on. The cursor, which is recorded together with the rows, stays before the oldest
event that was neither taken nor made a row: after a crash it is sent again, never left out.

An endpoint that takes nothing from anybody (`TRIP_LANES` invoices failed, none was taken in
between) is only probed, with one event at a time and at growing distances, and nothing more is read
for it: it costs next to nothing, and its rows do not pile up. The first success opens everything.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from itertools import count
from uuid import UUID

import trio

from actors.core.webhook import (
    Verdict,
    judged,
    next_attempt_ms,
    next_probe_ms,
    verdict_of,
)
from actors.outbox import Follower, Outbox
from actors.ports import Log, PersistentError, TransientError, WallClock
from actors.published import Filter, Published
from actors.webhook_book import (
    MOST_OWED,
    Attempt,
    Endpoint,
    Form,
    Outcome,
    Owed,
    Progress,
    WebhookBook,
)
from actors.webhook_forms import Composer, request_headers
from actors.webhook_sending import Answer, Sender

WINDOW = 512
"""Events in memory, read and not taken, below which more are read."""
TRIP_LANES = 5
UNSAVED_EVENTS = 5000
"""How far the cursor may run ahead of the stored one over events that nobody wanted."""
LONGEST_DELAY_MS = 10 * 3_600_000
"""More than any delay between two attempts."""
LONGEST_SLEEP_S = 60.0
"""The wall clock may jump: look at it at least this often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookRules:
    """What the configuration says of webhooks."""

    concurrency: int = 8
    """Requests at a time to one endpoint."""
    pause_after_ms: int = 5 * 86_400_000
    keep_log_ms: int = 30 * 86_400_000
    keep_attempts: int = 10_000
    """Per endpoint."""
    most_endpoints: int = 1000
    user_agent: str = "tallyd"


@dataclass(slots=True)
class WebhookFigures:
    """Of all endpoints, since the start."""

    delivered: int = 0
    failed: int = 0
    dead: int = 0
    pauses: int = 0
    in_flight: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookTools:
    """What all endpoints' actors work with."""

    book: WebhookBook
    outbox: Outbox
    sender: Sender
    open_secret: Callable[[UUID, bytes], bytes]
    """The endpoint's secret from what is stored. Raises PersistentError."""
    composers: Mapping[Form, Composer]
    clock: WallClock
    log: Log
    chance: Callable[[], float]
    """A random number of [0, 1)."""
    rules: WebhookRules
    figures: WebhookFigures
    healthy: trio.CapacityLimiter
    """Requests at a time to endpoints that took the last event."""
    failing: trio.CapacityLimiter
    """To all others: many that hang must not make those wait that do not."""


@dataclass(slots=True, eq=False)
class _Job:
    """One event on its way to the endpoint."""

    seq: int
    at_ms: int
    event: Published | None
    row: Owed | None = None


@dataclass(slots=True, eq=False)
class _Lane:
    """The events of one invoice, oldest first."""

    id: UUID
    jobs: deque[_Job] = field(default_factory=deque)
    busy: bool = False
    due_ms: int | None = None
    """Its head waits until then."""


@dataclass(frozen=True, slots=True)
class _Body:
    id: str
    type: str
    content: bytes


class WebhookActor:
    """Serves one endpoint until cancelled, or until it is paused."""

    def __init__(self, endpoint: Endpoint, tools: WebhookTools) -> None:
        """`endpoint` as it is stored now, and not paused."""
        self.endpoint = endpoint
        self.health = endpoint.health
        self._tools = tools
        self._composer = tools.composers[endpoint.form]
        self._lanes: dict[UUID, _Lane] = {}
        self._ready: deque[_Lane] = deque()
        self._waiting: list[tuple[int, int, _Lane]] = []
        self._tie = count()
        self._read_to = endpoint.cursor
        self._saved = endpoint.cursor
        self._outstanding: dict[int, int] = {}
        """seq → at_ms, growing: read, and neither taken nor a row yet."""
        self._rows: dict[int, Owed] = {}
        self._progress = Progress()
        self._lost = False
        """A record failed: nothing of this actor's may be recorded any more."""
        self._in_flight = 0
        self._allowed = 1
        """Requests at a time: more with each success, half as many after each that hung."""
        self._unlucky: set[UUID] = set()
        """Lanes that failed since anything was taken."""
        self._probes = 0
        self._probe_at_ms = 0
        self._wake = trio.Event()
        self._dirty = trio.Event()
        self._secrets: tuple[bytes, bytes | None] = (b"", None)

    @property
    def cursor(self) -> int:
        return next(iter(self._outstanding)) - 1 if self._outstanding else self._read_to

    @property
    def tripped(self) -> bool:
        return len(self._unlucky) >= TRIP_LANES

    def kick(self) -> None:
        """There may be something to do."""
        self._wake.set()

    def oldest_at_ms(self) -> int | None:
        """When the oldest event happened that the endpoint has not taken; None if it has all."""
        ages = [next(iter(self._outstanding.values()))] if self._outstanding else []
        return min((*ages, *(row.at_ms for row in self._rows.values())), default=None)

    async def run(self) -> None:
        """Returns when the endpoint is paused: `health` says why, and that is recorded."""
        tools, endpoint = self._tools, self.endpoint
        old = endpoint.old_secret
        self._secrets = (
            tools.open_secret(endpoint.id, endpoint.secret),
            None if old is None else tools.open_secret(endpoint.id, old),
        )
        for row in await tools.book.owed(endpoint.id, dead=False, limit=2 * MOST_OWED):
            self._rows[row.seq] = row
            self._accept(_Job(row.seq, row.at_ms, None, row), row.lane)
        wanted = Filter(user_id=endpoint.user_id, types=endpoint.types)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._last_words)
            follower = await stack.enter_async_context(tools.outbox.follow(endpoint.cursor, wanted))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_recording)
                while self.health.paused is None:
                    self._wake = trio.Event()
                    await self._read(follower)
                    self._start(nursery)
                    await self._sleep()
                nursery.cancel_scope.cancel()

    # --- reading ----------------------------------------------------------------------------------

    def _has_room(self) -> bool:
        return (
            len(self._outstanding) < WINDOW
            and len(self._rows) < MOST_OWED
            and len(self._progress.attempts) < WINDOW
            and (not self.tripped or not self._outstanding)
        )

    async def _read(self, follower: Follower) -> None:
        while self._has_room():
            batch = await follower.take()
            for event in await self._composer.chosen(batch):
                if event.seq not in self._rows:
                    self._accept(_Job(event.seq, event.at_ms, event), event.invoice_id)
            self._read_to = follower.seq
            if not batch:
                break
        if self.cursor - self._saved >= UNSAVED_EVENTS:
            self._dirty.set()

    def _accept(self, job: _Job, lane_id: UUID) -> None:
        lane = self._lanes.get(lane_id)
        if lane is None:
            lane = self._lanes[lane_id] = _Lane(lane_id)
        lane.jobs.append(job)
        if job.row is None:
            self._outstanding[job.seq] = job.at_ms
            if lane.due_ms is not None:
                self._make_row(lane, job)
        if len(lane.jobs) == 1:
            self._line_up(lane)

    def _make_row(self, lane: _Lane, job: _Job) -> None:
        """Of what waits behind a failure."""
        self._owe(job, Owed(seq=job.seq, lane=lane.id, at_ms=job.at_ms))

    def _line_up(self, lane: _Lane) -> None:
        """Have the lane's head sent when it is its time."""
        row = lane.jobs[0].row
        now_ms = self._tools.clock.now_ms()
        if row is not None and row.next_at_ms > now_ms:
            lane.due_ms = row.next_at_ms
            heapq.heappush(self._waiting, (row.next_at_ms, next(self._tie), lane))
        else:
            lane.due_ms = None
            self._ready.append(lane)

    # --- sending ----------------------------------------------------------------------------------

    def _most(self) -> int:
        return 1 if self.tripped else self._allowed

    def _start(self, nursery: trio.Nursery) -> None:
        now_ms = self._tools.clock.now_ms()
        # What is due later than any rule says was planned before the clock was moved back.
        while self._waiting and not now_ms < self._waiting[0][0] <= now_ms + LONGEST_DELAY_MS:
            self._ready.append(heapq.heappop(self._waiting)[2])
        if self.tripped and now_ms < self._probe_at_ms <= now_ms + LONGEST_DELAY_MS:
            return
        while self._ready and self._in_flight < self._most():
            lane = self._ready.popleft()
            lane.busy = True
            self._in_flight += 1
            nursery.start_soon(self._deliver, lane)

    async def _sleep(self) -> None:
        """Until something happens or something is due."""
        until_ms: float = float("inf")
        if self._in_flight < self._most():
            if self._waiting:
                until_ms = self._waiting[0][0]
            if self._ready:
                until_ms = 0
            if self.tripped:
                until_ms = max(until_ms, self._probe_at_ms)
        left_s = (until_ms - self._tools.clock.now_ms()) / 1000
        longest_s = float("inf") if until_ms == float("inf") else LONGEST_SLEEP_S
        with trio.move_on_after(max(0.0, min(left_s, longest_s))):
            await self._wake.wait()

    async def _deliver(self, lane: _Lane) -> None:
        tools, job = self._tools, lane.jobs[0]
        body = await self._body(job)
        if body is None:
            self._pass_over(lane, job)
            return
        async with tools.failing if self.health.failures else tools.healthy:
            tools.figures.in_flight += 1
            try:
                at_ms = tools.clock.now_ms()
                answer = await tools.sender.post(
                    self.endpoint.id,
                    self.endpoint.url,
                    self.headers(body.id, body.content, at_ms),
                    body.content,
                )
            finally:
                tools.figures.in_flight -= 1
        self._in_flight -= 1
        if self.health.paused is None:
            self._finish(lane, job, body, answer, at_ms)
        self._wake.set()
        self._dirty.set()

    def headers(self, event_id: str, content: bytes, at_ms: int) -> dict[str, str]:
        """Of a request at this instant; during a rotation both secrets sign."""
        new, old = self._secrets
        until_ms = self.endpoint.old_until_ms
        both = old is not None and until_ms is not None and at_ms < until_ms
        secrets = (new, old) if both and old is not None else (new,)
        return request_headers(
            self._composer,
            secrets,
            event_id=event_id,
            at_ms=at_ms,
            body=content,
            user_agent=self._tools.rules.user_agent,
        )

    async def _body(self, job: _Job) -> _Body | None:
        """None: it is nothing that the endpoint is sent in its form."""
        row, event = job.row, job.event
        if row is not None and row.notice is not None:
            event_id, kind, notice = row.notice.split(b"\n", 2)
            return _Body(event_id.decode(), kind.decode(), notice)
        if event is None:
            found = await self._tools.outbox.read(job.seq - 1, 1)
            assert found, "what is in the log stays in it"
            assert found[0].seq == job.seq, "the log has no gaps"
            event = found[0]
        content = await self._composer.body(event)
        return None if content is None else _Body(event.id, event.type, content)

    # --- what came of it --------------------------------------------------------------------------

    def _finish(self, lane: _Lane, job: _Job, body: _Body, answer: Answer, at_ms: int) -> None:
        tools = self._tools
        now_ms = tools.clock.now_ms()
        verdict = verdict_of(answer.status)
        self.health = judged(
            self.health, verdict, now_ms=now_ms, pause_after_ms=tools.rules.pause_after_ms
        )
        number = 1 if job.row is None else job.row.attempts + 1
        lane.busy = False
        if verdict is Verdict.DELIVERED:
            outcome = Outcome.DELIVERED
            self._taken(lane, job)
        else:
            outcome = self._failed(lane, job, answer, number, at_ms=at_ms, now_ms=now_ms)
        self._count(outcome)
        self._progress.attempts.append(
            Attempt(
                event_id=body.id,
                type=body.type,
                seq=job.seq if job.seq > 0 else None,
                invoice_id=lane.id if job.seq > 0 else None,
                number=number,
                at_ms=at_ms,
                latency_ms=answer.latency_ms,
                status=answer.status,
                error=answer.error,
                outcome=outcome,
            )
        )

    def _count(self, outcome: Outcome) -> None:
        figures = self._tools.figures
        figures.delivered += outcome is Outcome.DELIVERED
        figures.failed += outcome is not Outcome.DELIVERED
        figures.dead += outcome is Outcome.DEAD

    def _taken(self, lane: _Lane, job: _Job) -> None:
        was_tripped = self.tripped
        self._allowed = min(self._tools.rules.concurrency, self._allowed + 1)
        self._unlucky.clear()
        self._probes = 0
        self._settle(lane, job)
        if was_tripped:
            # What waited for the endpoint as a whole need not wait for its own time.
            for _, _, other in self._waiting:
                other.due_ms = None
                self._ready.append(other)
            self._waiting.clear()

    def _pass_over(self, lane: _Lane, job: _Job) -> None:
        """As if it were taken, but nothing was sent: it says nothing about the endpoint."""
        self._in_flight -= 1
        lane.busy = False
        self._settle(lane, job)
        self._wake.set()
        self._dirty.set()

    def _settle(self, lane: _Lane, job: _Job) -> None:
        """The lane's head is owed no more."""
        if job.row is not None:
            del self._rows[job.seq]
            self._progress.owed.pop(job.seq, None)
            self._progress.settled.add(job.seq)
        self._outstanding.pop(job.seq, None)
        self._go_on(lane)

    def _failed(
        self, lane: _Lane, job: _Job, answer: Answer, number: int, *, at_ms: int, now_ms: int
    ) -> Outcome:
        tools, before = self._tools, job.row
        first_at_ms = at_ms
        if before is not None and before.first_at_ms is not None:
            first_at_ms = before.first_at_ms
        again_ms = next_attempt_ms(
            attempts=number,
            first_at_ms=first_at_ms,
            now_ms=now_ms,
            chance=tools.chance(),
            asked_s=answer.retry_after_s,
        )
        # A pause gives nothing up: all of it is tried again when the endpoint is resumed.
        dead = again_ms is None and self.health.paused is None
        row = before or Owed(seq=job.seq, lane=lane.id, at_ms=job.at_ms)
        row = replace(
            row,
            attempts=number,
            first_at_ms=first_at_ms,
            next_at_ms=now_ms if again_ms is None else again_ms,
            dead=dead,
            error=answer.error,
        )
        self._owe(job, row)
        self._unlucky.add(lane.id)
        if answer.status is None:
            self._allowed = max(1, self._allowed // 2)
        if self.tripped:
            self._probes += 1
            self._probe_at_ms = next_probe_ms(
                failures=self._probes, now_ms=now_ms, chance=tools.chance()
            )
        if dead:
            del self._rows[job.seq]
            self._go_on(lane)
            return Outcome.DEAD
        for waiting in lane.jobs:
            if waiting.row is None:
                self._make_row(lane, waiting)
        self._line_up(lane)
        return Outcome.FAILED

    def _owe(self, job: _Job, row: Owed) -> None:
        job.row = row
        job.event = None
        self._rows[job.seq] = row
        self._progress.owed[job.seq] = row
        self._outstanding.pop(job.seq, None)

    def _go_on(self, lane: _Lane) -> None:
        """The head is done with."""
        lane.jobs.popleft()
        lane.due_ms = None
        if lane.jobs:
            self._line_up(lane)
        else:
            del self._lanes[lane.id]

    # --- recording --------------------------------------------------------------------------------

    async def _keep_recording(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty = trio.Event()
            await self._record()
            self._wake.set()  # there may be room again

    async def _record(self) -> None:
        progress, self._progress = self._progress, Progress()
        cursor, self._lost = self.cursor, True
        # To its end, even when cancelled: a cursor without the rows that it passes loses events.
        with trio.CancelScope(shield=True):
            await self._tools.book.record(
                self.endpoint.id, progress, cursor=cursor, health=self.health
            )
        self._saved, self._lost = cursor, False

    async def _last_words(self) -> None:
        """What is known at the end need not be done again."""
        if self._lost or (not self._progress and self.cursor == self._saved):
            return
        try:
            await self._record()
        except (TransientError, PersistentError) as error:
            self._tools.log.warning(
                "some webhooks that were taken will be sent again",
                endpoint=str(self.endpoint.id),
                reason=str(error),
            )
