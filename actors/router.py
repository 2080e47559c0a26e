"""Turns what the chain says into what each invoice is told, and waits until all have taken it in.

One look-up per output, conflict or height in the watch index; the number of invoices plays no part.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from uuid import UUID

import trio

from actors.core.agenda import Agenda
from actors.core.chain_events import (
    BlockConnected,
    BlocksDisconnected,
    ChainEvent,
    ChainTx,
    MempoolChanged,
    Output,
    RefusedOutput,
    Removal,
    RemovedTx,
)
from actors.core.inputs import (
    ChainShortened,
    HeightFinal,
    HeightTaken,
    Input,
    OutputsRefused,
    TimeReached,
    TipReached,
    TxIncluded,
    TxRemoved,
    TxSeen,
)
from actors.core.invoice import Invoice
from actors.core.watch_index import WatchIndex
from actors.invoice_actor import InvoiceActors

MAX_OUTPUTS = 64
"""Payments that one transaction can make to one invoice, but for one more of each further asset."""

Deliveries = dict[UUID, list[Input]]
Owners = Mapping[bytes, UUID]
"""Destination → the invoice that owns it, in memory or not."""


class Router:
    """One chain's map from destinations, transactions, heights and instants to invoices."""

    def __init__(self, index: WatchIndex) -> None:
        self.index = index
        self._instants = Agenda()
        """Deadlines and locks."""
        self._unlocks = Agenda()
        self._wakes = Agenda()
        self._finals = Agenda()
        self._retirements = Agenda()

    def note(self, before: Invoice | None, after: Invoice | None) -> None:
        """Follow an invoice's durable change of state (the `changed` of InvoiceActors)."""
        if after is None:
            if before is not None:
                self.index.remove(before)
            return
        invoice_id = after.terms.invoice_id
        self.index.update(before, after)
        due_ms = after.due_ms()
        if due_ms is not None and (before is None or before.due_ms() != due_ms):
            self._instants.remind(invoice_id, due_ms)
        if (unlock_ms := after.unlock_ms()) is not None:
            self._instants.remind(invoice_id, unlock_ms)
        if (unlock_height := after.unlock_height()) is not None:
            self._unlocks.remind(invoice_id, unlock_height)
        if (wake := after.wake_height()) is not None:
            (self._wakes if after.terms.finality is None else self._finals).remind(invoice_id, wake)
        if (until := after.watched_until()) is not None:
            self._retirements.remind(invoice_id, until)

    async def route(self, event: ChainEvent, actors: InvoiceActors, *, tip_height: int) -> None:
        """Tell every invoice concerned; returns when what followed is durable.

        `tip_height` is the tip before `event`.
        """
        match event:
            case BlockConnected():
                owners = await self._owners(event.txs, actors)
                await actors.deliver(self._connected(event, owners), height=event.block.height)
                mined_ms = event.block.time_s * 1000
                reached = TipReached(event.block.height, event.at_ms, mined_ms)
                await self._tip_reached(reached, actors)
                await self._retire(event.block.height, actors)
            case BlocksDisconnected():
                height = event.fork_point.height
                shortened = ChainShortened(height, event.at_ms)
                # Who was set aside is not in the index: told too, it loads or misses from here on.
                holders = self.index.holders_above(height) | actors.set_aside()
                await actors.deliver(
                    {invoice_id: [shortened] for invoice_id in holders}, height=height + 1
                )
            case MempoolChanged():
                owners = await self._owners(event.added, actors)
                mail = self._mempool(event, owners, actors, tip_height=tip_height)
                await actors.deliver(mail, height=tip_height + 1)

    async def read_up_to(self, as_of_ms: int, actors: InvoiceActors, *, tip_height: int) -> None:
        """The chain was read up to this instant: what ends by then (deadlines, locks) has ended."""
        reached = TimeReached(as_of_ms)
        while due := self._instants.pop_due(as_of_ms):
            mail: Deliveries = {
                invoice_id: [reached]
                for invoice_id in due
                if (invoice := actors.invoice(invoice_id)) is not None
                and (invoice.open or invoice.unlock_ms() is not None)
            }
            await actors.deliver(mail, height=tip_height + 1)
        # What an instant unlocked may have been deep enough for long.
        await self._tip_reached(TipReached(tip_height, as_of_ms), actors)

    async def final_up_to(
        self, height: int, at_ms: int, actors: InvoiceActors, *, tip_height: int
    ) -> None:
        """The node calls the blocks up to `height` final: invoices that wait for that settle."""
        final = HeightFinal(height, at_ms)
        while due := self._finals.pop_due(height):
            mail: Deliveries = {
                invoice_id: [final]
                for invoice_id in due
                if (invoice := actors.invoice(invoice_id)) is not None
                and _is_due(invoice.wake_height(), height)
            }
            await actors.deliver(mail, height=tip_height + 1)

    async def _tip_reached(self, reached: TipReached, actors: InvoiceActors) -> None:
        height = reached.height
        # Locks first: what they held back may settle at this very tip.
        for agenda in (self._unlocks, self._wakes):
            while due := agenda.pop_due(height):
                mail: Deliveries = {
                    invoice_id: [reached]
                    for invoice_id in due
                    if (invoice := actors.invoice(invoice_id)) is not None
                    and any(_is_due(at, height) for at in _heights(invoice))
                }
                await actors.deliver(mail, height=height)

    async def _retire(self, height: int, actors: InvoiceActors) -> None:
        while retired := self._retirements.pop_due(height - 1):
            for invoice_id in retired:
                invoice = actors.invoice(invoice_id)
                until = invoice.watched_until() if invoice else None
                if until is not None and until < height:
                    actors.retire(invoice_id)
            await trio.lowlevel.checkpoint()

    async def _owners(self, txs: Iterable[ChainTx], actors: InvoiceActors) -> Owners:
        """Whose the destinations are that these transactions name."""
        named = {output.destination for tx in txs for output in tx.outputs}
        named.update(refused.destination for tx in txs for refused in tx.refused)
        watched = {each: owner for each in named if (owner := self.index.owner(each)) is not None}
        stored = [each for each in named if each not in watched and each in self.index.destinations]
        if stored:
            watched.update(await actors.owners(stored))
        return watched

    def _connected(self, event: BlockConnected, owners: Owners) -> Deliveries:
        block, at_ms, index = event.block, event.at_ms, self.index
        mail: Deliveries = {}
        for invoice_id in index.holders_elsewhere(block.height, block.hash):
            mail.setdefault(invoice_id, []).append(HeightTaken(block.height, block.hash, at_ms))
        for tx in event.txs:
            losers = index.conflicting(tx.txid, tx.spends)
            self._refused(mail, tx, owners, at_ms)
            payees = self._payees(tx, owners)
            expected = dict.fromkeys(index.waiting(tx.txid), ())
            for invoice_id, outputs in {**expected, **payees}.items():
                mail.setdefault(invoice_id, []).append(
                    TxIncluded(
                        tx.txid,
                        outputs,
                        block,
                        at_ms,
                        replaces=losers,
                        spends=tx.spends,
                        replaceable=bool(tx.replaceable),
                    )
                )
            removed = (RemovedTx(loser, Removal.DOUBLE_SPENT, tx.txid) for loser in losers)
            self._removed(mail, removed, at_ms, told=payees)
            if payees:
                # Kept while it is watched: a reorg may give its inputs to another.
                index.claim(tx.txid, tx.spends)
        return mail

    def _mempool(
        self, event: MempoolChanged, owners: Owners, actors: InvoiceActors, *, tip_height: int
    ) -> Deliveries:
        at_ms, index = event.at_ms, self.index
        mail: Deliveries = {}
        fresh: dict[bytes, Iterable[UUID]] = {}
        for tx in event.added:
            losers = index.conflicting(tx.txid, tx.spends)
            self._refused(mail, tx, owners, at_ms)
            payees = self._payees(tx, owners)
            overtaken = (tx.txid, *losers)
            if any(_in_a_block(actors.invoice(invoice_id), overtaken) for invoice_id in payees):
                # News older than the block that has it, or what took its inputs: it is in no
                # mempool any more, and what it promised may differ from what the block holds.
                continue
            since_ms = None if tx.first_seen_s is None else tx.first_seen_s * 1000
            for invoice_id, outputs in payees.items():
                mail.setdefault(invoice_id, []).append(
                    TxSeen(
                        tx.txid,
                        outputs,
                        at_ms,
                        replaces=losers,
                        spends=tx.spends,
                        known_since_ms=since_ms,
                        tip_height=tip_height,
                        replaceable=bool(tx.replaceable),
                    )
                )
            removed = (RemovedTx(loser, Removal.REPLACED, tx.txid) for loser in losers)
            self._removed(mail, removed, at_ms, told=payees, fresh=fresh)
            if payees:
                index.claim(tx.txid, tx.spends)
                fresh[tx.txid] = payees
        self._removed(mail, event.removed, at_ms, told=())
        return mail

    def _payees(self, tx: ChainTx, owners: Owners) -> dict[UUID, tuple[Output, ...]]:
        payees: dict[UUID, list[Output]] = {}
        for output in tx.outputs:
            invoice_id = owners.get(output.destination)
            if invoice_id is not None and output.amount_base > 0:
                payees.setdefault(invoice_id, []).append(output)
        return {invoice_id: _bounded(outputs) for invoice_id, outputs in payees.items()}

    def _refused(self, mail: Deliveries, tx: ChainTx, owners: Owners, at_ms: int) -> None:
        """Tell whom a transaction seems to pay, and does not."""
        found: dict[UUID, list[RefusedOutput]] = {}
        for output in tx.refused:
            invoice_id = owners.get(output.destination)
            if invoice_id is not None:
                found.setdefault(invoice_id, []).append(output)
        for invoice_id, outputs in found.items():
            mail.setdefault(invoice_id, []).append(OutputsRefused(tuple(outputs), at_ms))

    def _removed(
        self,
        mail: Deliveries,
        removed: Iterable[RemovedTx],
        at_ms: int,
        *,
        told: Iterable[UUID],
        fresh: Mapping[bytes, Iterable[UUID]] = MappingProxyType({}),
    ) -> None:
        """Tell the payees of removed transactions, except those `told` by what replaced them.

        `fresh` are the payees of transactions that are being told in the same mail.
        """
        for gone in removed:
            payees = self.index.waiting(gone.txid).union(fresh.get(gone.txid, ()))
            for invoice_id in payees.difference(told):
                mail.setdefault(invoice_id, []).append(
                    TxRemoved(gone.txid, gone.reason, gone.by, at_ms)
                )


def _bounded(outputs: list[Output]) -> tuple[Output, ...]:
    """At most MAX_OUTPUTS of one transaction; what is beyond is added to the last of its asset.

    A stranger may split a payment into as many outputs as fit into a block, and each would be a
    fact with a state after it. The sum is exact; the order in the transaction decides, so mempool
    and block agree. Outputs that are told apart by more than their amount (one-time key, lock) are
    never added up: chains that have those bound the outputs of a transaction themselves.
    """
    if len(outputs) <= MAX_OUTPUTS:
        return tuple(outputs)
    kept: list[Output] = []
    last: dict[str, int] = {}
    for output in outputs:
        lock = output.unlock_height if output.unlock_ms is None else output.unlock_ms
        plain = output.one_time_key is None and lock is None
        if plain and len(kept) >= MAX_OUTPUTS and output.asset in last:
            at = last[output.asset]
            kept[at] = replace(kept[at], amount_base=kept[at].amount_base + output.amount_base)
            continue
        if plain:
            last[output.asset] = len(kept)
        kept.append(output)
    return tuple(kept)


def _heights(invoice: Invoice) -> tuple[int | None, int | None]:
    """The tips at which something of the invoice changes."""
    return invoice.unlock_height(), invoice.wake_height()


def _is_due(at: int | None, now: int) -> bool:
    return at is not None and at <= now


def _in_a_block(invoice: Invoice | None, txids: Collection[bytes]) -> bool:
    """Whether one of the transactions pays the invoice from a block of the active chain."""
    return bool(txids) and any(
        payment.height is not None and payment.outpoint.txid in txids
        for payment in (invoice.payments if invoice else ())
    )
