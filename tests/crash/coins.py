"""The chains of a story, as customers use them: pay, replace, mine, reorg; and what stands."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Protocol

from tests.helpers.anvil import AnvilNode
from tests.helpers.anvil import new_address as nobodys_address
from tests.helpers.bitcoind import BitcoinNode, coins

DEEP = 6
"""Confirmations of a coin that is spent: no reorg of a story takes it away."""
DEPTH = 3
"""Of the deepest reorg of a story."""
ENOUGH = 50
"""Coins that customers have in the beginning; their change comes back to them."""
FEE_BASE = 20_000


class Coin(Protocol):
    """One chain with a node of its own; amounts are in base units, txids as REST writes them."""

    asset: str
    family: str
    """As the field of a user's keys has it."""
    unit_base: int
    """Amounts are multiples of it: GoiPay's clients see eight decimals."""
    decimals: int

    def pay(self, address: str, amount_base: int) -> str:
        """A transaction in the mempool; returns its txid."""

    def replace(self, txid: str, *, away: bool) -> str | None:
        """Spend its inputs again, for the same or for somebody else; None: it does not wait."""

    def mine(self, blocks: int = 1) -> None:
        """Blocks with what waits."""

    def reorg(self) -> bool:
        """Displace some blocks by more of them; what was in them may come again."""

    def depths(self, txids: Iterable[str]) -> dict[str, int]:
        """The confirmations of those that stand; 0 in the mempool."""


class BitcoinCoin:
    """Bitcoin or Litecoin, from a wallet whose coins are chosen here: each is deep, and spent once.

    A payment that is `dated` (that part of them, by chance) may stand in no block before the one
    after the tip, as wallets do it against fee sniping: a reorg drops it, and nobody sends it
    again.
    """

    unit_base = 1
    decimals = 8

    def __init__(self, node: BitcoinNode, chance: random.Random, *, dated: float) -> None:
        self.asset = node.family.upper()
        self.family = str(node.family)
        self._node = node
        self._chance = chance
        self._dated = dated
        self._used: set[tuple[str, int]] = set()
        self._made: dict[str, tuple[dict[str, object], str, int, int]] = {}
        """txid → the coin that it spends, the address that it pays, how much, and its fee."""
        if len(node.rpc("listunspent", DEEP)) < ENOUGH:
            node.rpc("generatetodescriptor", DEEP, "raw(51)")

    def pay(self, address: str, amount_base: int) -> str:
        return self._send(self._piece(amount_base), address, amount_base, FEE_BASE)

    def replace(self, txid: str, *, away: bool) -> str | None:
        if txid not in self._made or txid not in self._node.mempool():
            return None
        piece, address, amount_base, fee_base = self._made[txid]
        if away:
            address = self._node.new_address()
        return self._send(piece, address, amount_base, fee_base + FEE_BASE)

    def mine(self, blocks: int = 1) -> None:
        self._node.mine(blocks)

    def reorg(self) -> bool:
        self._node.reorg(self._chance.randint(1, DEPTH))
        return True

    def depths(self, txids: Iterable[str]) -> dict[str, int]:
        pool = set(self._node.mempool())
        depth = {one: int(self._node.rpc("gettransaction", one)["confirmations"]) for one in txids}
        # A negative one counts the confirmations of what has taken its place.
        return {txid: max(one, 0) for txid, one in depth.items() if one > 0 or txid in pool}

    def _piece(self, amount_base: int) -> dict[str, object]:
        enough = amount_base + 10 * FEE_BASE
        for one in self._node.rpc("listunspent", DEEP):
            key = (one["txid"], one["vout"])
            if key not in self._used and int(one["amount"] * 10**8) > enough:
                self._used.add(key)
                return dict(one)
        raise AssertionError(f"the customers of {self.asset} have spent all that they had")

    def _send(self, piece: dict[str, object], address: str, amount_base: int, fee_base: int) -> str:
        rest_base = int(piece["amount"] * 10**8) - amount_base - fee_base  # type: ignore[operator]
        pays = {address: coins(amount_base), self._node.new_address(): coins(rest_base)}
        inputs = [{"txid": piece["txid"], "vout": piece["vout"]}]
        lock = self._node.height() if self._chance.random() < self._dated else 0
        raw = self._node.rpc("createrawtransaction", inputs, pays, lock, True)
        signed = self._node.rpc("signrawtransactionwithwallet", raw)["hex"]
        txid = str(self._node.rpc("sendrawtransaction", signed, 0))
        self._made[txid] = (piece, address, amount_base, fee_base)
        return txid


class EvmCoin:
    """Ethereum, from the node's own accounts."""

    asset = "ETH"
    family = "eth"
    unit_base = 10**10
    decimals = 18

    def __init__(self, node: AnvilNode, chance: random.Random) -> None:
        self._node = node
        self._chance = chance

    def pay(self, address: str, amount_base: int) -> str:
        return self._node.pay(address, amount_base, sender=self._chance.choice(self._node.accounts))

    def replace(self, txid: str, *, away: bool) -> str | None:
        if txid not in self._node.mempool():
            return None
        elsewhere = nobodys_address(self._chance.randrange(10**6)) if away else None
        return self._node.replace(txid, to=elsewhere)

    def mine(self, blocks: int = 1) -> None:
        self._node.mine(blocks)

    def reorg(self) -> bool:
        height = self._node.height()
        depth = self._chance.randint(1, DEPTH)
        if depth >= height:
            return False
        blocks = [self._node.block(height - depth + n + 1) for n in range(depth)]
        self._node.reorg(depth, keep=[txid for block in blocks for txid in block["transactions"]])
        return True

    def depths(self, txids: Iterable[str]) -> dict[str, int]:
        height, pool = self._node.height(), set(self._node.mempool())
        found: dict[str, int] = {}
        for txid in txids:
            receipt = self._node.rpc("eth_getTransactionReceipt", txid)
            if receipt is not None:
                found[txid] = height - int(receipt["blockNumber"], 16) + 1
            elif txid in pool:
                found[txid] = 0
        return found
