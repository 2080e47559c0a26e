"""All endpoints' actors: started, woken, stopped for a change, paused with an alarm.

A paused endpoint has no task, no memory and no rows that grow: only its cursor in the store. An
endpoint is changed while its actor rests (`resting`): nothing that the actor still wrote can
overtake the change, and the next actor begins with what is stored.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from uuid import UUID, uuid4

import trio

from actors.core.webhook import Health, Pause
from actors.event_hub import EventHub
from actors.ports import Committed, PersistentError, TransientError
from actors.supervisor import Supervisor
from actors.webhook_actor import WebhookActor, WebhookTools
from actors.webhook_book import Endpoint, Owed

TRIM_EVERY_S = 600.0
PAUSED = "webhook.paused"
"""The kind of the notice that a user's other endpoints get when one is paused by itself."""


@dataclass(frozen=True, slots=True)
class WebhookStatistics:
    """Counts are since the start."""

    delivered: int
    failed: int
    dead: int
    pauses: int
    in_flight: int
    active: int
    """Endpoints that are sent to, those that fail included."""
    failing: int
    paused: int
    oldest_at_ms: int | None
    """When the oldest event happened that an active endpoint has not taken."""


@dataclass(slots=True, eq=False)
class _Run:
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    done: trio.Event = field(default_factory=trio.Event)
    actor: WebhookActor | None = None


Alarm = Callable[[Endpoint, str], Awaitable[None]]
"""Told, once, of an endpoint that was paused by itself, and why."""
Notice = Callable[[str, Endpoint, str], bytes]
"""(event id, endpoint, why) → the body of the notice to the user's other endpoints."""


class WebhookEngine:
    """Runs the actors; belongs to one Trio thread."""

    def __init__(self, tools: WebhookTools, hub: EventHub, *, alarm: Alarm, notice: Notice) -> None:
        self.tools = tools
        self._hub = hub
        self._alarm = alarm
        self._notice = notice
        self._nursery: trio.Nursery | None = None
        self._runs: dict[UUID, _Run] = {}
        self._by_user: dict[UUID | None, set[WebhookActor]] = {}
        self._paused: set[UUID] = set()
        self._changes = trio.Lock()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled; started means: every endpoint that is not paused has its actor."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                with self._hub.listening(self._heard):
                    for endpoint in await self.tools.book.endpoints():
                        if endpoint.health.paused is None:
                            self._launch(endpoint.id)
                        else:
                            self._paused.add(endpoint.id)
                    task_status.started()
                    await self._keep_trimmed()
            finally:
                self._nursery = None

    @asynccontextmanager
    async def resting(self, endpoint_id: UUID) -> AsyncIterator[None]:
        """Nothing is sent to the endpoint, or recorded of it, in this block.

        What was being sent is broken off, and will be sent again. Afterwards the endpoint goes on
        as it is stored then. One block at a time.
        """
        async with self._changes:
            run = self._runs.get(endpoint_id)
            if run is not None:
                run.scope.cancel()
                # Who gives up here must not leave the endpoint without an actor.
                with trio.CancelScope(shield=True):
                    await run.done.wait()
            try:
                await self.tools.sender.forget(endpoint_id)
                yield
            finally:
                self._paused.discard(endpoint_id)
                self._launch(endpoint_id)

    def statistics(self) -> WebhookStatistics:
        figures = self.tools.figures
        actors = [run.actor for run in self._runs.values() if run.actor is not None]
        ages = [at for one in actors if (at := one.oldest_at_ms()) is not None]
        return WebhookStatistics(
            delivered=figures.delivered,
            failed=figures.failed,
            dead=figures.dead,
            pauses=figures.pauses,
            in_flight=figures.in_flight,
            active=len(actors),
            failing=sum(one.health.failures > 0 for one in actors),
            paused=len(self._paused),
            oldest_at_ms=min(ages, default=None),
        )

    # --- actors -----------------------------------------------------------------------------------

    def _launch(self, endpoint_id: UUID) -> None:
        if self._nursery is not None:
            run = self._runs[endpoint_id] = _Run()
            self._nursery.start_soon(self._keep, endpoint_id, run)

    async def _keep(self, endpoint_id: UUID, run: _Run) -> None:
        supervisor = Supervisor(
            f"webhook {endpoint_id}", partial(self._serve, endpoint_id, run), log=self.tools.log
        )
        try:
            with run.scope:
                await supervisor.run()
        finally:
            if self._runs.get(endpoint_id) is run:
                del self._runs[endpoint_id]
            run.done.set()

    async def _serve(self, endpoint_id: UUID, run: _Run) -> None:
        endpoint = await self.tools.book.endpoint(endpoint_id)
        if endpoint is None:
            return
        if endpoint.health.paused is not None:
            self._paused.add(endpoint_id)
            return
        actor = run.actor = WebhookActor(endpoint, self.tools)
        actors = self._by_user.setdefault(endpoint.user_id, set())
        actors.add(actor)
        try:
            await actor.run()
        finally:
            run.actor = None
            actors.discard(actor)
            if not actors and self._by_user.get(endpoint.user_id) is actors:
                del self._by_user[endpoint.user_id]
        assert actor.health.paused is not None, "an actor ends by a pause alone"
        self._paused.add(endpoint_id)
        self.tools.figures.pauses += 1
        if self._nursery is not None:
            # Not here: who changes the endpoint meanwhile must not wait for it, or break it off.
            self._nursery.start_soon(
                self._raise_alarm, endpoint, actor.health.paused, _paused_word(actor.health)
            )

    def _heard(self, batch: Sequence[Committed]) -> None:
        for actor in self._by_user.get(None, ()):
            actor.kick()
        for user_id in {one.after.terms.user_id for one in batch}:
            for actor in self._by_user.get(user_id, ()):
                actor.kick()

    # --- alarms -----------------------------------------------------------------------------------

    async def _raise_alarm(self, endpoint: Endpoint, pause: Pause, why: str) -> None:
        self.tools.log.error(
            "a webhook endpoint was paused by itself; nothing is lost: it goes on from its cursor"
            " when it is resumed",
            endpoint=str(endpoint.id),
            user=str(endpoint.user_id),
            pause=pause.value,
            reason=why,
        )
        try:
            await self._alarm(endpoint, why)
            for other in await self.tools.book.endpoints():
                if other.id != endpoint.id and self._concerns(other, endpoint):
                    await self._tell(other, endpoint, why)
        except (TransientError, PersistentError) as error:
            self.tools.log.error(
                "nobody but this log could be told of the pause",
                endpoint=str(endpoint.id),
                reason=str(error),
            )

    async def _tell(self, other: Endpoint, paused: Endpoint, why: str) -> None:
        """Put a notice among what the other endpoint is owed."""
        now_ms = self.tools.clock.now_ms()
        event_id = f"{PAUSED}-{uuid4()}"
        content = self._notice(event_id, paused, why)
        row = Owed(
            seq=-now_ms,
            lane=paused.id,
            at_ms=now_ms,
            notice=b"\n".join((event_id.encode(), PAUSED.encode(), content)),
        )
        async with self.resting(other.id):
            taken = {
                one.seq for one in await self.tools.book.owed(other.id, dead=False, limit=1000)
            }
            while row.seq in taken:
                row = Owed(seq=row.seq - 1, lane=row.lane, at_ms=row.at_ms, notice=row.notice)
            await self.tools.book.owe(other.id, [row])

    def _concerns(self, other: Endpoint, paused: Endpoint) -> bool:
        """Whether the notice goes there: to the same user's, and to those that get everybody's.

        Not where the form has no notices: its receivers would not know what that is.
        """
        return (
            other.health.paused is None
            and other.user_id in (paused.user_id, None)
            and (not other.types or PAUSED in other.types)
            and not self.tools.composers[other.form].kinds
        )

    # --- the log of attempts ----------------------------------------------------------------------

    async def _keep_trimmed(self) -> None:
        rules = self.tools.rules
        while True:
            await trio.sleep(TRIM_EVERY_S)
            before_ms = self.tools.clock.now_ms() - rules.keep_log_ms
            try:
                for endpoint in await self.tools.book.endpoints():
                    await self.tools.book.forget_attempts(
                        endpoint.id, before_ms=before_ms, keep=rules.keep_attempts
                    )
            except (TransientError, PersistentError) as error:
                self.tools.log.warning("the webhooks' log was not trimmed", reason=str(error))


def _paused_word(health: Health) -> str:
    """Why, for people."""
    assert health.paused is not None
    return {
        "asked": "somebody paused it",
        "gone": "the receiver answered 410 Gone",
        "failing": "it has answered nothing but failures for days",
    }[health.paused.value]
