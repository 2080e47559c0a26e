"""What concerns us, by the key under which a chain would mention it; one look-up per mention.

The cost of scanning a block does not grow with the number of invoices: outputs are looked up in
`destinations`, spent inputs in `conflicts`, and nothing is ever searched.
"""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from actors.core.invoice import Invoice


class WatchIndex:
    """Destinations, conflict keys, transactions and heights → invoices.

    Drivers read `destinations` and `conflicts` directly: a method call per output would double the
    cost of scanning. Only the chain's router writes.
    """

    __slots__ = (
        "_payees",
        "_spends",
        "by_height",
        "conflicts",
        "contested",
        "destinations",
        "sizes",
        "unconfirmed",
    )

    def __init__(self) -> None:
        self.destinations: dict[bytes, UUID | None] = {}
        """scriptPubKey or address bytes → the one invoice that owns it while that is in memory.

        It grows with every invoice there ever was: of those that are done with only the address
        stays, and the store knows whose it is.
        """
        self.sizes: set[int] = set()
        """Lengths of all destinations: what has another length needs no look-up."""
        self.conflicts: dict[bytes, bytes] = {}
        """Conflict key (see ChainTx.spends) → txid of the watched transaction that holds it.

        A transaction in a block keeps its keys: after a reorg another may take its inputs.
        """
        self.unconfirmed: dict[bytes, set[UUID]] = {}
        """txid → invoices that it pays and that wait for it to confirm."""
        self.contested: dict[bytes, set[UUID]] = {}
        """txid → invoices that it would pay if a block chose it, and not its rival."""
        self.by_height: dict[int, dict[UUID, set[bytes]]] = {}
        """Height → invoices with a payment there → hashes of the blocks that hold them."""
        self._spends: dict[bytes, tuple[bytes, ...]] = {}
        self._payees: dict[bytes, set[UUID]] = {}
        """txid → invoices that it pays, in the mempool (contested or not) or on the chain."""

    def watch(self, destination: bytes, invoice_id: UUID) -> None:
        """Watch `destination` for ever. An address belongs to one invoice only: asserted."""
        owner = self.destinations.setdefault(destination, invoice_id)
        self.sizes.add(len(destination))
        assert owner == invoice_id, f"address reused: {destination.hex()} of invoice {owner}"

    def watch_stored(self, destination: bytes) -> None:
        """Watch `destination` for ever, of an invoice that need not be in memory."""
        self.destinations.setdefault(destination, None)
        self.sizes.add(len(destination))

    def owner(self, destination: bytes) -> UUID | None:
        """The invoice in memory that owns it."""
        return self.destinations.get(destination)

    def update(self, before: Invoice | None, after: Invoice) -> None:
        """Follow one invoice's change of state: index what `after` waits for, drop the rest."""
        invoice_id = after.terms.invoice_id
        if before is None:
            self.destinations[after.terms.destination] = invoice_id
        for payment in before.payments if before else ():
            self._drop(invoice_id, payment.outpoint.txid, payment.height)
        for payment in after.payments:
            if payment.gone is None or payment.contested:
                self._payees.setdefault(payment.outpoint.txid, set()).add(invoice_id)
                if payment.spends and payment.outpoint.txid not in self._spends:
                    self.claim(payment.outpoint.txid, payment.spends)
            if payment.unconfirmed:
                self.unconfirmed.setdefault(payment.outpoint.txid, set()).add(invoice_id)
            elif payment.contested:
                self.contested.setdefault(payment.outpoint.txid, set()).add(invoice_id)
            elif payment.height is not None and payment.block_hash is not None:
                holders = self.by_height.setdefault(payment.height, {})
                holders.setdefault(invoice_id, set()).add(payment.block_hash)
        self._release_unpaying(before)

    def remove(self, invoice: Invoice) -> None:
        """Forget an invoice that leaves memory; its destination stays watched."""
        if invoice.terms.destination in self.destinations:
            self.destinations[invoice.terms.destination] = None
        for payment in invoice.payments:
            self._drop(invoice.terms.invoice_id, payment.outpoint.txid, payment.height)
        self._release_unpaying(invoice)

    def claim(self, txid: bytes, spends: tuple[bytes, ...]) -> None:
        """Have later transactions that spend the same inputs reported as conflicts of `txid`."""
        self._spends[txid] = spends
        for key in spends:
            self.conflicts[key] = txid

    def release(self, txid: bytes) -> None:
        """Stop reporting conflicts of `txid`; keys that a newer transaction claimed stay."""
        for key in self._spends.pop(txid, ()):
            if self.conflicts.get(key) == txid:
                del self.conflicts[key]

    def waiting(self, txid: bytes) -> frozenset[UUID]:
        """Invoices that wait to hear what becomes of this unconfirmed transaction."""
        return frozenset(self.unconfirmed.get(txid, ())).union(self.contested.get(txid, ()))

    def conflicting(self, txid: bytes, spends: Iterable[bytes]) -> tuple[bytes, ...]:
        """The watched transactions that a transaction with these inputs excludes."""
        holders = (self.conflicts.get(key) for key in spends)
        return tuple(dict.fromkeys(held for held in holders if held is not None and held != txid))

    def holders_above(self, height: int) -> set[UUID]:
        """Invoices with a payment in a block above `height`."""
        return {
            invoice_id
            for at, holders in self.by_height.items()
            if at > height
            for invoice_id in holders
        }

    def holders_elsewhere(self, height: int, block_hash: bytes) -> list[UUID]:
        """Invoices with a payment recorded at `height` in a block other than `block_hash`."""
        holders = self.by_height.get(height, {})
        return [invoice_id for invoice_id, hashes in holders.items() if hashes - {block_hash}]

    def _release_unpaying(self, before: Invoice | None) -> None:
        for payment in before.payments if before else ():
            if payment.outpoint.txid not in self._payees:
                self.release(payment.outpoint.txid)

    def _drop(self, invoice_id: UUID, txid: bytes, height: int | None) -> None:
        _discard(self.unconfirmed, txid, invoice_id)
        _discard(self.contested, txid, invoice_id)
        _discard(self._payees, txid, invoice_id)
        if height is not None:
            holders = self.by_height.get(height)
            if holders is not None:
                holders.pop(invoice_id, None)
                if not holders:
                    del self.by_height[height]


def _discard(held: dict[bytes, set[UUID]], txid: bytes, invoice_id: UUID) -> None:
    holders = held.get(txid)
    if holders is not None:
        holders.discard(invoice_id)
        if not holders:
            del held[txid]
