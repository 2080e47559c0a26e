"""The desk of the process that delivers webhooks: does for its engine what others post."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

import trio

from actors.answering import answering
from actors.duties import Duties
from actors.ports import Log, PersistentError, TransientError
from actors.remote_webhooks import (
    DELIVER,
    LEASE_S,
    REST,
    SEND,
    SEND_S,
    WAKE,
    Lease,
    Sending,
    pack_answer,
    pack_statistics,
)
from actors.webhook_engine import WebhookEngine
from actors.webhook_sending import Answer

REPORT_EVERY_S = 2.0
KEPT = b"kept"


@dataclass(eq=False)
class _Rest:
    """A lease on its way: asked for, held, ended."""

    begun: trio.Event = field(default_factory=trio.Event)
    ended: trio.Event = field(default_factory=trio.Event)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    woken: bool = False


class WebhookDesk:
    """Serves the duty of delivering, which must be held; the engine must be running."""

    def __init__(self, engine: WebhookEngine, *, duties: Duties, log: Log) -> None:
        self._engine = engine
        self._duties = duties
        self._log = log
        self._rests: dict[UUID, _Rest] = {}
        self._nursery: trio.Nursery | None = None
        self._answer = answering(
            {REST: self._rest, WAKE: self._wake, SEND: self._send},
            duty=DELIVER,
            who="the process that delivers webhooks",
            log=log,
        )

    async def run(self) -> None:
        """Answer and report until cancelled."""
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._keep_reporting)
            await self._duties.serve(DELIVER, self._answer)

    # --- leases -----------------------------------------------------------------------------------

    async def _rest(self, body: bytes) -> bytes:
        lease = Lease.unpack(body)
        rest = self._rests.get(lease.id)
        if rest is None:
            assert self._nursery is not None
            rest = self._rests[lease.id] = _Rest()
            self._nursery.start_soon(self._hold, lease, rest)
        await rest.begun.wait()
        return b""

    async def _wake(self, body: bytes) -> bytes:
        lease = Lease.unpack(body)
        rest = self._rests.get(lease.id)
        if rest is None:
            # An earlier holder gave it, or it has ended: what is stored by now counts.
            async with self._engine.resting(lease.endpoint_id):
                pass
            return b""
        kept = rest.begun.is_set()
        rest.woken = True
        rest.scope.cancel()
        await rest.ended.wait()
        return KEPT if kept else b""

    async def _hold(self, lease: Lease, rest: _Rest) -> None:
        try:
            with rest.scope:
                async with self._engine.resting(lease.endpoint_id):
                    rest.begun.set()
                    await trio.sleep(LEASE_S)
            if not rest.woken:
                self._log.warning(
                    "nobody came back to an endpoint that was to be changed; it goes on",
                    endpoint=str(lease.endpoint_id),
                )
        finally:
            del self._rests[lease.id]
            rest.begun.set()
            rest.ended.set()

    # --- the rest ---------------------------------------------------------------------------------

    async def _send(self, body: bytes) -> bytes:
        sending = Sending.unpack(body)
        answer = Answer(
            status=None, error=f"no answer within {SEND_S:g} s", latency_ms=round(SEND_S * 1000)
        )
        with trio.move_on_after(SEND_S):
            answer = await self._engine.tools.sender.post(
                sending.endpoint_id, sending.url, sending.headers, sending.body
            )
        return pack_answer(answer)

    async def _keep_reporting(self) -> None:
        said = b""
        while True:
            now = pack_statistics(self._engine.statistics())
            if now != said:
                try:
                    await self._duties.report(DELIVER, now)
                    said = now
                except (TransientError, PersistentError) as error:
                    self._log.warning(
                        "others cannot be told of the webhooks, trying again", reason=str(error)
                    )
            await trio.sleep(REPORT_EVERY_S)
