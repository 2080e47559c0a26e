"""Which transactions pay a watched destination, at a cost that does not grow with their number.

A destination is an account (33 bytes), or an account, a zero byte and a comment. An account that is
one of our destinations, has comments among them, or is a jetton wallet of one, is found by one
look-up each; only then is the message read.
"""

from __future__ import annotations

from itertools import islice

import trio

from actors.core.chain_events import ChainTx, OutPoint, Output
from actors.core.watch_index import WatchIndex
from daemon.drivers.ton_cells import (
    ACCOUNT_BYTES,
    CellError,
    comments_of,
    read_body,
    read_transaction,
    read_transfer,
)
from daemon.drivers.ton_jettons import Jetton, Jettons
from daemon.drivers.ton_rpc import TonRpc
from daemon.drivers.ton_wire import TonTx

COIN_INDEX = 0
JETTON_INDEX = 1
_TOLD_AT_ONCE = 500
"""Owners whose jetton wallets are computed before others have their turn: some 2 ms."""
_LONG_BODY = 16 * 1024
"""Longer ones are read in a thread: hostile ones may have thousands of cells."""


class Matcher:
    """Matches transactions against an index whose destinations only ever grow."""

    def __init__(self, rpc: TonRpc, jettons: Jettons, coin: str) -> None:
        self._rpc = rpc
        self._jettons = jettons
        self._coin = coin
        self._index: WatchIndex | None = None
        self._read = 0
        self._usable: tuple[Jetton, ...] = ()
        self._shared: set[bytes] = set()
        """Accounts that several invoices share, told apart by comments."""
        self._wallets: dict[bytes, tuple[str, bytes]] = {}
        """Jetton wallet → (asset, owner)."""
        self._following = trio.Lock()

    def __len__(self) -> int:
        """How many jetton wallets are watched."""
        return len(self._wallets)

    def wallets_of(self, owner: bytes) -> list[bytes]:
        """The owner's wallets, one for each jetton."""
        return [jetton.wallet.of(owner) for jetton in self._usable]

    async def follow(self, index: WatchIndex) -> None:
        """Take in what was added to the index; to be awaited before `match`."""
        if self._is_current(index):
            return
        async with self._following:
            if not self._jettons.is_checked:
                await self._jettons.check()
            if index is not self._index or self._usable is not self._jettons.usable:
                self._index, self._read = index, 0
                self._usable = self._jettons.usable
                self._shared.clear()
                self._wallets.clear()
            while not self._is_current(index):
                await self._follow(index)

    async def match(self, tx: TonTx, index: WatchIndex) -> ChainTx | None:
        """What the transaction pays us; None if nothing.

        Raises DistrustError when a transaction of ours cannot be read.
        """
        account = tx.account
        destinations = index.destinations
        wallet = self._wallets.get(account)
        is_ours = account in destinations or account in self._shared
        if wallet is None and not is_ours:
            return None
        try:
            output = await self._read_payment(tx, index, wallet if not is_ours else None)
        except CellError as error:
            raise self._rpc.distrust(f"gave transaction {tx.hash.hex()} garbled: {error}") from None
        return None if output is None else ChainTx(tx.hash, (output,), ())

    # --- inner ---

    def _is_current(self, index: WatchIndex) -> bool:
        return (
            index is self._index
            and self._usable is self._jettons.usable
            and self._read == len(index.destinations)
        )

    async def _follow(self, index: WatchIndex) -> None:
        destinations = index.destinations
        count = len(destinations)
        # The newest, without walking over those that were read: nothing is ever taken out.
        new = list(islice(reversed(destinations), count - self._read))
        for number, destination in enumerate(reversed(new)):
            if number % _TOLD_AT_ONCE == _TOLD_AT_ONCE - 1:
                await trio.lowlevel.checkpoint()
            self._add(destination)
        self._read = count

    def _add(self, destination: bytes) -> None:
        owner = destination
        if len(destination) > ACCOUNT_BYTES:
            owner = destination[:ACCOUNT_BYTES]
            if owner in self._shared:
                return
            self._shared.add(owner)
        for jetton in self._usable:
            self._wallets[jetton.wallet.of(owner)] = (jetton.asset, owner)

    async def _read_payment(
        self, tx: TonTx, index: WatchIndex, wallet: tuple[str, bytes] | None
    ) -> Output | None:
        if max(len(tx.body), len(tx.boc)) > _LONG_BODY:
            return await trio.to_thread.run_sync(self._payment, tx, index, wallet)
        return self._payment(tx, index, wallet)

    def _payment(
        self, tx: TonTx, index: WatchIndex, wallet: tuple[str, bytes] | None
    ) -> Output | None:
        value, aborted, body = tx.value_base, tx.aborted, None
        if tx.boc:
            inbound = read_transaction(tx.boc, tx.hash)
            if inbound is None or inbound.bounced or inbound.returned:
                return None
            value, aborted, body = inbound.value_base, inbound.aborted, inbound.body
        owner = tx.account if wallet is None else wallet[1]
        needs_body = wallet is not None or owner not in index.destinations
        if needs_body and body is None:
            if not tx.body:
                raise CellError("its message has no body")
            body = read_body(tx.body)
        comments: tuple[str, ...] = ()
        asset, number, amount = self._coin, COIN_INDEX, value
        if wallet is not None:
            transfer = None if aborted else read_transfer(body)
            if transfer is None:
                return None
            asset, number, amount = wallet[0], JETTON_INDEX, transfer.amount_base
            comments = transfer.comments
        elif needs_body:
            comments = comments_of(body)
        destination = _destination(owner, comments, index)
        if destination is None or amount == 0:
            return None
        return Output(OutPoint(tx.hash, number), destination, amount, asset)


def _destination(owner: bytes, comments: tuple[str, ...], index: WatchIndex) -> bytes | None:
    """The account alone goes before the account with a comment."""
    if owner in index.destinations:
        return owner
    named = (owner + b"\0" + comment.encode() for comment in comments)
    return next((each for each in named if each in index.destinations), None)
