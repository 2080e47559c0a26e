"""Searching EVM blocks for watched addresses: bytes of JSON in, transactions that concern us out.

Two synthetic blocks. In the first, 200 transactions write 5000 Transfer logs of configured tokens:
its receipts are parsed by orjson alone, and parsed and searched. The second is shaped like a busy
one: 400 transactions, whole, with their receipts; its cost is the processor's time. All figures
come from one run with the variants taking turns, so that what slows the machine slows all of them.
"""

import gc
import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import orjson
import trio

from actors.core.assets import Asset, Chain
from actors.core.chain_events import ChainTx
from actors.core.watch_index import WatchIndex
from daemon.drivers.evm import EvmSource
from daemon.drivers.evm_internal import Way
from daemon.drivers.evm_wire import TRANSFER_TOPIC, Assets, block_with_receipts, match_block
from tests.helpers.recording_log import RecordingLog

LOGS = 5_000
LOG_TRANSACTIONS = 200
TRANSACTIONS = 400
TOKENS = 24
WATCHED = (1_000, 100_000, 1_000_000)
ROUNDS = 41
HITS = 20
MISSED_BLOCKS = 64
MISSED_TRANSACTIONS = 150
_CACHE_BYTES = 24 * 1024 * 1024

_Variant = Callable[[], object]


def run(*, rounds: int = ROUNDS, watched: tuple[int, int, int] = WATCHED) -> dict[str, float]:
    """Measure once: sizes, medians in milliseconds, and what is promised of them."""
    rng = random.Random(7)
    tokens = [_address(rng) for _ in range(TOKENS)]
    assets = Assets("ETH", {token: f"TOKEN{n}" for n, token in enumerate(tokens)})
    logs_block = make_block(rng, tokens, transactions=LOG_TRANSACTIONS, logs=LOGS)
    busy_block = make_block(rng, tokens, transactions=TRANSACTIONS, logs=3 * TRANSACTIONS, other=2)
    ours = _payees(logs_block, rng) + _payees(busy_block, rng)
    indexes = {count: _index(count, rng, ours) for count in watched}
    variants: dict[str, _Variant] = {
        # The logs are what is compared: the block itself is small beside them.
        "logs_parse": lambda: [orjson.loads(part) for part in logs_block],
        "busy_parse": lambda: [orjson.loads(part) for part in busy_block],
    }
    for count, index in indexes.items():
        variants[f"logs_{count}"] = lambda index=index: search(logs_block, index, assets)
    variants["busy"] = lambda: search(busy_block, indexes[watched[1]], assets)
    assert len(search(logs_block, indexes[watched[1]], assets)) > 0
    times = _measure(variants, rounds)
    medians = {name: statistics.median(taken) * 1000 for name, taken in times.items()}
    return {
        "logs_bytes": float(sum(map(len, logs_block))),
        "busy_bytes": float(sum(map(len, busy_block))),
        **{f"{name}_ms": round(median, 3) for name, median in medians.items()},
        "logs_100k_to_parse": round(medians[f"logs_{watched[1]}"] / medians["logs_parse"], 3),
        "logs_1m_to_1k": round(medians[f"logs_{watched[2]}"] / medians[f"logs_{watched[0]}"], 3),
        "busy_block_cpu_ms": round(medians["busy"], 3),
    }


def search(parts: tuple[bytes, bytes], index: WatchIndex, assets: Assets) -> tuple[ChainTx, ...]:
    """What the driver does with the two answers of one block."""
    block, receipts = (orjson.loads(part) for part in parts)
    return match_block(block_with_receipts(block["result"], receipts["result"], {}), index, assets)


def _measure(variants: dict[str, _Variant], rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in variants}
    elsewhere = bytearray(_CACHE_BYTES)
    gc.collect()
    gc.freeze()  # as the daemon does after loading
    for _ in range(rounds):
        for name, variant in variants.items():
            bytes(elsewhere)  # what a daemon does between two blocks: the index leaves the cache
            began = time.thread_time()
            variant()
            times[name].append(time.thread_time() - began)
    gc.unfreeze()
    return times


def catch_up(*, rounds: int = 5, blocks: int = MISSED_BLOCKS) -> dict[str, float]:
    """Blocks per second, the median of `rounds`, for both ways of reading them."""
    rng = random.Random(7)
    tokens = [_address(rng) for _ in range(TOKENS)]
    node = _CannedNode(rng, tokens, blocks)
    index = _index(100_000, rng, [])
    figures: dict[str, float] = {"transactions_per_block": MISSED_TRANSACTIONS}
    for name, way in (("receipts_and_traces", Way.TRACE_BLOCK), ("logs", Way.NONE)):
        rates = [blocks / _read(node, tokens, index, way) for _ in range(rounds)]
        figures[f"catch_up_with_{name}_blocks_per_s"] = round(statistics.median(rates))
    return figures


def _read(node: "_CannedNode", tokens: list[str], index: WatchIndex, way: Way) -> float:
    chain = Chain("bnb", "BNB Smart Chain", "evm", "BNB", 0.45, 15)
    assets = [
        Asset(f"TOKEN{n}", "bnb", "T", "T", 18, bytes.fromhex(token[2:]))
        for n, token in enumerate(tokens)
    ]
    source = EvmSource(
        node, chain=chain, assets=assets, log=RecordingLog(), chain_id=56, internal_way=way
    )

    async def follow() -> float:
        count = 0
        began = time.perf_counter()
        async for _ in source.read_blocks(range(1, node.count + 1), index):
            count += 1
        assert count == node.count, "every block is read"
        return time.perf_counter() - began

    return trio.run(follow)


class _CannedNode:
    """Answers of a node, as bytes that are parsed when they are asked for."""

    can_subscribe = False
    setting = "coin.bnb"
    where = "coin.bnb.daemon.url (bytes)"

    def __init__(self, rng: random.Random, tokens: list[str], count: int) -> None:
        self.count = count
        self._answers: dict[tuple[str, int], bytes] = {}
        parent = _hash(rng)
        for height in range(1, count + 1):
            block, receipts = make_block(
                rng,
                tokens,
                transactions=MISSED_TRANSACTIONS,
                logs=3 * MISSED_TRANSACTIONS,
                other=2,
                height=height,
                parent=parent,
            )
            made = orjson.loads(block)["result"]
            parent = made["hash"]
            self._answers["eth_getBlockByNumber", height] = block
            self._answers["eth_getBlockReceipts", height] = receipts
            self._answers["trace_block", height] = _traces(rng, made)
            ours = [
                log
                for receipt in orjson.loads(receipts)["result"]
                for log in receipt["logs"]
                if log["address"] in tokens
            ]
            self._answers["eth_getLogs", height] = orjson.dumps({"result": ours})

    async def batch(self, calls: Sequence[tuple[str, Any]], **_: Any) -> list[Any]:
        await trio.lowlevel.checkpoint()
        return [self._answer(method, params) for method, params in calls]

    def _answer(self, method: str, params: Any) -> Any:
        if method != "eth_getLogs":
            return orjson.loads(self._answers[method, int(params[0], 16)])["result"]
        first, last = (int(params[0][name], 16) for name in ("fromBlock", "toBlock"))
        return [
            log
            for height in range(first, last + 1)
            for log in orjson.loads(self._answers[method, height])["result"]
        ]


def _traces(rng: random.Random, block: dict[str, Any]) -> bytes:
    """Three calls per transaction, one of which moves value."""
    entries = [
        {
            "action": {
                "callType": "call",
                "from": tx["from"],
                "to": _address(rng),
                "gas": "0x5208",
                "input": "0x" + rng.randbytes(68).hex(),
                "value": value,
            },
            "blockHash": block["hash"],
            "result": {"gasUsed": "0x5208", "output": "0x" + rng.randbytes(32).hex()},
            "subtraces": 0,
            "traceAddress": path,
            "transactionHash": tx["hash"],
            "type": "call",
        }
        for tx in block["transactions"]
        for path, value in (([], "0x0"), ([0], "0x0"), ([1], hex(rng.randrange(1, 10**18))))
    ]
    return orjson.dumps({"result": entries})


def make_block(
    rng: random.Random,
    tokens: list[str],
    *,
    transactions: int,
    logs: int,
    other: int = 0,
    height: int = 23_000_000,
    parent: str | None = None,
) -> tuple[bytes, bytes]:
    """The answers to eth_getBlockByNumber and eth_getBlockReceipts.

    Of `logs`, one in `other` + 1 is a Transfer of one of `tokens`; the rest is anybody's.
    """
    block_hash, number = _hash(rng), hex(height)
    txs = [_transaction(rng, tokens, block_hash, number, n) for n in range(transactions)]
    each = [0] * transactions
    for _ in range(logs):
        each[rng.randrange(transactions)] += 1
    first = 0
    receipts = []
    for tx, count in zip(txs, each, strict=True):
        own = [_log(rng, tokens, tx, first + n, other=other) for n in range(count)]
        first += count
        receipts.append(_receipt(rng, tx, own))
    header = {
        name: _hash(rng) for name in ("stateRoot", "receiptsRoot", "transactionsRoot", "mixHash")
    }
    block = {
        "number": number,
        "hash": block_hash,
        "timestamp": hex(1_750_000_000),
        "logsBloom": "0x" + rng.randbytes(256).hex(),
        "gasUsed": "0x1c9c380",
        **header,
        "parentHash": parent or _hash(rng),
        "transactions": txs,
    }
    return tuple(  # type: ignore[return-value]
        orjson.dumps({"jsonrpc": "2.0", "id": 1, "result": result}) for result in (block, receipts)
    )


def _transaction(
    rng: random.Random, tokens: list[str], block_hash: str, number: str, position: int
) -> dict[str, object]:
    is_plain = rng.random() < 0.4
    call = "0x" if is_plain else "0xa9059cbb" + rng.randbytes(rng.choice((64, 64, 228, 484))).hex()
    return {
        "blockHash": block_hash,
        "blockNumber": number,
        "from": _address(rng),
        "gas": "0x5208",
        "gasPrice": hex(rng.randrange(10**11)),
        "maxFeePerGas": hex(rng.randrange(10**11)),
        "maxPriorityFeePerGas": hex(rng.randrange(10**9)),
        "hash": _hash(rng),
        "input": call,
        "nonce": hex(rng.randrange(10**5)),
        "to": _address(rng) if is_plain else rng.choice(tokens),
        "transactionIndex": hex(position),
        "value": hex(rng.randrange(10**19)) if is_plain else "0x0",
        "type": "0x2",
        "accessList": [],
        "chainId": "0x1",
        "v": "0x1",
        "r": _hash(rng),
        "s": _hash(rng),
        "yParity": "0x1",
    }


def _log(
    rng: random.Random, tokens: list[str], tx: dict[str, object], number: int, *, other: int
) -> dict[str, object]:
    is_ours = rng.randrange(other + 1) == 0
    return {
        "address": rng.choice(tokens) if is_ours else _address(rng),
        "topics": [TRANSFER_TOPIC, _padded(_address(rng)), _padded(_address(rng))],
        "data": "0x" + rng.randbytes(32).hex(),
        "blockNumber": tx["blockNumber"],
        "transactionHash": tx["hash"],
        "transactionIndex": tx["transactionIndex"],
        "blockHash": tx["blockHash"],
        "logIndex": hex(number),
        "removed": False,
    }


def _receipt(
    rng: random.Random, tx: dict[str, object], logs: list[dict[str, object]]
) -> dict[str, object]:
    return {
        "blockHash": tx["blockHash"],
        "blockNumber": tx["blockNumber"],
        "contractAddress": None,
        "cumulativeGasUsed": hex(rng.randrange(10**7)),
        "effectiveGasPrice": hex(rng.randrange(10**11)),
        "from": tx["from"],
        "gasUsed": "0x5208",
        "logs": logs,
        "logsBloom": "0x" + rng.randbytes(256).hex(),
        "status": "0x1",
        "to": tx["to"],
        "transactionHash": tx["hash"],
        "transactionIndex": tx["transactionIndex"],
        "type": "0x2",
    }


def _payees(parts: tuple[bytes, bytes], rng: random.Random) -> list[bytes]:
    logs = [log for receipt in orjson.loads(parts[1])["result"] for log in receipt["logs"]]
    return [bytes.fromhex(log["topics"][2][26:]) for log in rng.sample(logs, HITS)]


def _index(count: int, rng: random.Random, hits: list[bytes]) -> WatchIndex:
    index = WatchIndex()
    for address in hits:
        index.watch(address, UUID(int=rng.getrandbits(128)))
    while len(index.destinations) < count:
        index.watch(rng.randbytes(20), UUID(int=rng.getrandbits(128)))
    # Unconfirmed payments are waited for, so senders and nonces are looked up as well.
    index.claim(rng.randbytes(32), (rng.randbytes(28),))
    index.unconfirmed[rng.randbytes(32)] = {UUID(int=1)}
    return index


def _hash(rng: random.Random) -> str:
    return "0x" + rng.randbytes(32).hex()


def _address(rng: random.Random) -> str:
    return "0x" + rng.randbytes(20).hex()


def _padded(address: str) -> str:
    return "0x" + "0" * 24 + address[2:]


if __name__ == "__main__":
    for name, value in {**run(), **catch_up()}.items():
        print(f"{name:24} {value:g}")
