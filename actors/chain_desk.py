"""The watcher's desk: does for its chain what others post, and lets all know how the chain is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from uuid import UUID

import orjson
import trio

from actors.answering import answering
from actors.chain_standing import ChainStanding, pack, watch_duty
from actors.chain_supervisor import ChainSupervisor
from actors.core.codec import terms_from_json
from actors.duties import Duties
from actors.ports import InvoiceBook, Log, PersistentError, TransientError
from actors.remote_chain import CANCEL, CREATE
from actors.turns import Turns

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
        self._turns: Turns[UUID] = Turns()
        self._answer = answering(
            {CREATE: self._create, CANCEL: self._cancel},
            duty=self._duty,
            who=f"the process that watches {self._chain}",
            of=" the invoice",
            log=log,
        )

    async def greet(self) -> None:
        """Let everybody know that somebody has the duty; before the supervisor runs."""
        await self._report(self._standing())

    async def run(self) -> None:
        """Answer and report until cancelled; the supervisor runs."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_reporting)
            await self._duties.serve(self._duty, self._answer)

    async def _create(self, body: bytes) -> bytes:
        """Once for each id: it may be posted twice, or by two processes with the same claim."""
        terms = terms_from_json(orjson.loads(body))
        async with self._turns.turn(terms.invoice_id):
            if await self._store.invoice(terms.invoice_id) is None:
                await self._know_account(terms.account_id)
                await self._supervisor.create(terms)
        return b""

    async def _cancel(self, body: bytes) -> bytes:
        await self._supervisor.cancel(UUID(body.decode()))
        return b""

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
