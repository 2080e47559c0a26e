"""Short words for building invoices, transactions and blocks in tests of the pure core."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from hashlib import sha256
from typing import Any
from uuid import UUID

from actors.core.chain_events import OutPoint, Output
from actors.core.chain_view import BlockRef
from actors.core.decision import create, decide
from actors.core.events import Event, Terms
from actors.core.inputs import Input, TxIncluded, TxSeen
from actors.core.invoice import Invoice, evolve, fold

CREATED_MS = 1_700_000_000_000
EXPIRES_MS = CREATED_MS + 3_600_000
DESTINATION = b"\x00\x14" + b"\x11" * 20
ASSET = "BTC"

TERMS = Terms(
    invoice_id=UUID(int=1),
    user_id=UUID(int=2),
    asset=ASSET,
    chain="btc",
    network="regtest",
    address="bcrt1qexample",
    destination=DESTINATION,
    account_id=1,
    path=(0, 1),
    required_base=50_000_000,
    confirmations=3,
    created_at_ms=CREATED_MS,
    expires_at_ms=EXPIRES_MS,
    watch_depth=100,
)


def terms(**changes: Any) -> Terms:
    return replace(TERMS, **changes)


def txid(name: str) -> bytes:
    return sha256(name.encode()).digest()


def outputs(
    name: str, *amounts_base: int, asset: str = ASSET, **changes: Any
) -> tuple[Output, ...]:
    """`changes` are further fields of each output: a one-time key, a lock."""
    return tuple(
        Output(OutPoint(txid(name), index), DESTINATION, amount_base, asset, **changes)
        for index, amount_base in enumerate(amounts_base)
    )


def block(height: int, *, branch: str = "", time_ms: int = CREATED_MS) -> BlockRef:
    """The block at `height`; branches share the blocks below their first named one."""
    return BlockRef(
        height=height,
        hash=txid(f"block {height}{branch}"),
        parent=txid(f"block {height - 1}{branch}"),
        time_s=time_ms // 1000,
    )


def seen(
    name: str,
    *amounts_base: int,
    at_ms: int,
    replaces: Iterable[str] = (),
    tip_height: int | None = None,
    replaceable: bool = False,
    **changes: Any,
) -> TxSeen:
    """`changes` as in `outputs`."""
    return TxSeen(
        txid(name),
        outputs(name, *amounts_base, **changes),
        at_ms,
        tuple(map(txid, replaces)),
        tip_height=tip_height,
        replaceable=replaceable,
    )


def included(
    name: str,
    *amounts_base: int,
    into: BlockRef,
    at_ms: int,
    replaces: Iterable[str] = (),
    replaceable: bool = False,
    **changes: Any,
) -> TxIncluded:
    """`changes` as in `outputs`."""
    return TxIncluded(
        txid(name),
        outputs(name, *amounts_base, **changes),
        into,
        at_ms,
        tuple(map(txid, replaces)),
        replaceable=replaceable,
    )


class History:
    """One invoice and every event it recorded; each step checks that the fold is the state."""

    def __init__(self, **changes: Any) -> None:
        self.events: list[Event] = [create(terms(**changes))]
        self.invoice: Invoice = fold(self.events)

    def tell(self, happened: Input) -> list[str]:
        """Tell it an input, twice; the kinds of the events that were new the first time."""
        found = decide(self.invoice, happened)
        for event in found:
            self.invoice = evolve(self.invoice, event)
        self.events.extend(found)
        if found:
            assert fold(self.events) == self.invoice
        assert decide(self.invoice, happened) == (), "a duplicate yields no event"
        return [event.kind for event in found]

    def tell_all(self, *inputs: Input) -> list[str]:
        return [kind for happened in inputs for kind in self.tell(happened)]
