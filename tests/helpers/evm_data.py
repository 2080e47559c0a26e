"""Blocks, receipts and transactions as EVM nodes write them, and a chain of them for TableRpc."""

from __future__ import annotations

from hashlib import sha256
from typing import Any
from uuid import UUID

from actors.core.watch_index import WatchIndex
from daemon.drivers.evm_wire import TRANSFER_TOPIC, Assets
from tests.helpers.table_rpc import TableRpc, refusal

Json = dict[str, Any]
CONTRACT = b"\xcc" * 20
ASSETS = Assets("ETH", {"0x" + CONTRACT.hex(): "TOKEN"})
OURS = b"\x0a" * 20
OTHER = b"\x0b" * 20
STRANGER = b"\x5e" * 20


def hexed(value: bytes | int) -> str:
    return hex(value) if isinstance(value, int) else "0x" + value.hex()


def digest(name: str) -> bytes:
    return sha256(name.encode()).digest()


def transaction(
    name: str,
    *,
    to: bytes | None = STRANGER,
    value: int = 0,
    call: str = "0x",
    sender: bytes = STRANGER,
    nonce: int = 0,
) -> Json:
    return {
        "hash": hexed(digest(name)),
        "from": hexed(sender),
        "to": None if to is None else hexed(to),
        "value": hex(value),
        "input": call,
        "nonce": hex(nonce),
        "blockHash": None,
        "blockNumber": None,
    }


def transfer_call(payee: bytes, amount_base: int) -> str:
    return "0xa9059cbb" + payee.hex().rjust(64, "0") + f"{amount_base:064x}"


def transfer_from_call(owner: bytes, payee: bytes, amount_base: int) -> str:
    words = [owner.hex().rjust(64, "0"), payee.hex().rjust(64, "0"), f"{amount_base:064x}"]
    return "0x23b872dd" + "".join(words)


def transfer_log(
    payee: bytes, amount_base: int, *, contract: bytes = CONTRACT, payer: bytes = STRANGER
) -> Json:
    return {
        "address": hexed(contract),
        "topics": [TRANSFER_TOPIC, *("0x" + one.hex().rjust(64, "0") for one in (payer, payee))],
        "data": f"0x{amount_base:064x}",
    }


def receipt(tx: Json, *logs: Json, status: int = 1) -> Json:
    """The receipt of a transaction; its block is filled in by `block`."""
    own = [{**log, "transactionHash": tx["hash"]} for log in logs]
    return {"transactionHash": tx["hash"], "status": hex(status), "logs": own}


def block(
    height: int, *pairs: tuple[Json, Json], branch: str = "", parent_branch: str | None = None
) -> tuple[Json, list[Json]]:
    """A block with whole transactions, and its receipts."""
    below = branch if parent_branch is None else parent_branch
    own_hash = hexed(digest(f"block {height}{branch}"))
    place = {"blockHash": own_hash, "blockNumber": hex(height)}
    txs = [{**tx, **place} for tx, _ in pairs]
    receipts = [
        {**one, **place, "logs": [{**log, **place} for log in one["logs"]]} for _, one in pairs
    ]
    head = {
        "number": hex(height),
        "hash": own_hash,
        "parentHash": hexed(digest(f"block {height - 1}{below}")),
        "timestamp": hex(1_700_000_000 + 12 * height),
    }
    return {**head, "transactions": txs}, receipts


def index_of(*destinations: bytes) -> WatchIndex:
    index = WatchIndex()
    for number, destination in enumerate(destinations):
        index.watch(destination, UUID(int=number + 1))
    return index


class FakeEvm(TableRpc):
    """A node with a chain of blocks and a mempool; no traces, no subscriptions unless wished."""

    def __init__(self, height: int = 3, **wishes: Any) -> None:
        super().__init__(**wishes)
        self.blocks = [block(at) for at in range(height + 1)]
        self.mempool: dict[str, Json] = {}
        self.methods |= {
            "eth_chainId": "0x1",
            "eth_syncing": False,
            "web3_clientVersion": "fake/1",
            "eth_getBlockByNumber": self._by_number,
            "eth_getBlockByHash": self._by_hash,
            "eth_getBlockReceipts": self._receipts,
            "eth_getTransactionReceipt": self._receipt,
            "eth_getTransactionByHash": self._transaction,
            "eth_getLogs": self._logs,
            "eth_getCode": "0x01",
            "eth_call": "0x" + "6".rjust(64, "0"),
        }

    def mine(self, *pairs: tuple[Json, Json], branch: str = "", parent_branch: str = "") -> Json:
        made = block(len(self.blocks), *pairs, branch=branch, parent_branch=parent_branch)
        self.blocks.append(made)
        for tx, _ in pairs:
            self.mempool.pop(tx["hash"], None)
        return made[0]

    def pend(self, tx: Json) -> None:
        self.mempool[tx["hash"]] = tx

    def _by_number(self, which: str, whole: bool) -> Json | None:
        if which == "latest":
            return self.blocks[-1][0]
        if not which.startswith("0x"):
            raise refusal("unknown tag", -32602)
        height = int(which, 16)
        return self.blocks[height][0] if height < len(self.blocks) else None

    def _by_hash(self, block_hash: str, whole: bool) -> Json | None:
        return next((one for one, _ in self.blocks if one["hash"] == block_hash), None)

    def _receipts(self, which: str) -> list[Json] | None:
        height = int(which, 16)
        return self.blocks[height][1] if height < len(self.blocks) else None

    def _receipt(self, txid: str) -> Json | None:
        found = (one for _, receipts in self.blocks for one in receipts)
        return next((one for one in found if one["transactionHash"] == txid), None)

    def _transaction(self, txid: str) -> Json | None:
        if txid in self.mempool:
            return self.mempool[txid]
        found = (tx for one, _ in self.blocks for tx in one["transactions"])
        return next((tx for tx in found if tx["hash"] == txid), None)

    def _logs(self, wanted: Json) -> list[Json]:
        first, last = int(wanted["fromBlock"], 16), int(wanted["toBlock"], 16)
        return [
            log
            for _, receipts in self.blocks[first : last + 1]
            for one in receipts
            for log in one["logs"]
            if log["address"] in wanted["address"] and log["topics"][0] == wanted["topics"][0]
        ]
