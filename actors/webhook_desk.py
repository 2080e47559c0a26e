"""The desk of the process that delivers webhooks: does for its engine what others post."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

import trio

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

    async def run(self) -> None:
        """Answer and report until cancelled."""
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._keep_reporting)
            await self._duties.serve(DELIVER, self._answer)

    async def _answer(self, kind: str, body: bytes) -> bytes:
        try:
            return await self._do(kind, body)
        except (TransientError, PersistentError):
            raise
        except Exception as error:
            # A post that makes us crash would be given to the next holder, and to the one after.
            self._log.error(
                "a post could not be answered",
                duty=DELIVER,
                kind=kind,
                error=repr(error),
                exc_info=error,
            )
            raise TransientError(
                f"the process that delivers webhooks failed to {kind}: its log says why"
            ) from error

    async def _do(self, kind: str, body: bytes) -> bytes:
        if kind == REST:
            await self._rest(Lease.unpack(body))
            return b""
        if kind == WAKE:
            return await self._wake(Lease.unpack(body))
        if kind == SEND:
            return pack_answer(await self._send(Sending.unpack(body)))
        raise PersistentError(
            f"the process that delivers webhooks does not know how to {kind!r}: run the same"
            " version of tallyd everywhere"
        )

    # --- leases -----------------------------------------------------------------------------------

    async def _rest(self, lease: Lease) -> None:
        rest = self._rests.get(lease.id)
        if rest is None:
            assert self._nursery is not None
            rest = self._rests[lease.id] = _Rest()
            self._nursery.start_soon(self._hold, lease, rest)
        await rest.begun.wait()

    async def _wake(self, lease: Lease) -> bytes:
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

    async def _send(self, sending: Sending) -> Answer:
        with trio.move_on_after(SEND_S):
            return await self._engine.tools.sender.post(
                sending.endpoint_id, sending.url, sending.headers, sending.body
            )
        return Answer(
            status=None, error=f"no answer within {SEND_S:g} s", latency_ms=round(SEND_S * 1000)
        )

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
