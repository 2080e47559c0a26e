"""The watcher's desk: does for its chain what others post, and lets all know how the chain is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import UUID

import orjson
import trio

from actors.chain_standing import ChainStanding, pack, watch_duty
from actors.chain_supervisor import ChainSupervisor
from actors.core.codec import terms_from_json
from actors.duties import Duties
from actors.ports import InvoiceBook, Log, PersistentError, TransientError
from actors.remote_chain import CANCEL, CREATE

LOOK_EVERY_S = 0.25
"""How soon others hear that the chain's standing has changed."""
FIGURES_EVERY_S = 2.0
"""How soon they hear of what changes all the time: figures, and up to when the chain was read."""


class ChainDesk:
    """Serves the duty of watching one chain, which must be held."""

    def __init__(
        self,
        supervisor: ChainSupervisor,
        *,
        duties: Duties,
        store: InvoiceBook,
        know_account: Callable[[int], Awaitable[None]],
        log: Log,
    ) -> None:
        """`know_account` gets the account of an invoice before its address is watched, so that
        what must be known to see payments to it can be read; it may raise TransientError or
        PersistentError."""
        self._supervisor = supervisor
        self._chain = supervisor.chain.id
        self._duty = watch_duty(self._chain)
        self._duties = duties
        self._store = store
        self._know_account = know_account
        self._log = log
        self._at_work: dict[UUID, trio.Event] = {}

    async def greet(self) -> None:
        """Let everybody know that somebody has the duty; before the supervisor runs."""
        await self._report(self._standing())

    async def run(self) -> None:
        """Answer and report until cancelled; the supervisor runs."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_reporting)
            await self._duties.serve(self._duty, self._answer)

    async def _answer(self, kind: str, body: bytes) -> bytes:
        try:
            await self._do(kind, body)
        except (TransientError, PersistentError):
            raise
        except Exception as error:
            # A post that makes us crash would be given to the next holder, and to the one after.
            self._log.error(
                "a post could not be answered",
                duty=self._duty,
                kind=kind,
                error=repr(error),
                exc_info=error,
            )
            raise TransientError(
                f"the process that watches {self._chain} failed to {kind} the invoice: its log"
                " says why"
            ) from error
        return b""

    async def _do(self, kind: str, body: bytes) -> None:
        if kind == CREATE:
            await self._create(body)
        elif kind == CANCEL:
            await self._supervisor.cancel(UUID(body.decode()))
        else:
            raise PersistentError(
                f"the process that watches {self._chain} does not know how to {kind!r}: run the"
                " same version of tallyd everywhere"
            )

    async def _create(self, body: bytes) -> None:
        """Once for each id: it may be posted twice, or by two processes with the same claim."""
        terms = terms_from_json(orjson.loads(body))
        async with self._alone(terms.invoice_id):
            if await self._store.invoice(terms.invoice_id) is not None:
                return
            await self._know_account(terms.account_id)
            await self._supervisor.create(terms)

    @asynccontextmanager
    async def _alone(self, invoice_id: UUID) -> AsyncIterator[None]:
        while (event := self._at_work.get(invoice_id)) is not None:
            await event.wait()
        done = self._at_work[invoice_id] = trio.Event()
        try:
            yield
        finally:
            del self._at_work[invoice_id]
            done.set()

    async def _keep_reporting(self) -> None:
        said: ChainStanding | None = None
        said_at = -FIGURES_EVERY_S
        while True:
            now = self._standing()
            old = said is not None and trio.current_time() - said_at >= FIGURES_EVERY_S
            if said is None or _lasting(now) != _lasting(said) or (old and now != said):
                said, said_at = now, trio.current_time()
                try:
                    await self._report(now)
                except (TransientError, PersistentError) as error:
                    said = None
                    self._log.warning(
                        "others cannot be told of the chain, trying again",
                        chain=self._chain,
                        reason=str(error),
                    )
            await trio.sleep(LOOK_EVERY_S)

    def _standing(self) -> ChainStanding:
        supervisor = self._supervisor
        return ChainStanding(
            supervisor.health(), dict(supervisor.disabled_assets()), supervisor.figures()
        )

    async def _report(self, standing: ChainStanding) -> None:
        await self._duties.report(self._duty, pack(standing))


def _lasting(standing: ChainStanding) -> ChainStanding:
    """Without what changes all the time."""
    return replace(standing, health=replace(standing.health, as_of_ms=None), figures=None)
