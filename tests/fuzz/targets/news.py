"""What nodes publish without being asked: the notifications of Bitcoin's and Monero's ZMQ."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from random import Random

from actors.core.watch_index import WatchIndex
from actors.ports import TransientError
from daemon.drivers.bitcoin_mempool import MempoolReader
from daemon.drivers.bitcoin_news import News
from daemon.drivers.bitcoin_rpc import BitcoinRpc
from daemon.drivers.bitcoin_zmq import Published
from daemon.drivers.jsonrpc import JsonRpcClient
from daemon.drivers.monero_feed import _txids
from daemon.drivers.signal_buffer import SignalBuffer
from daemon.drivers.zmq_subscription import BadMessageError
from tests.fuzz.engine import Check, Target
from tests.fuzz.mutation import as_json, mutated, mutated_json
from tests.fuzz.targets.nodes import URL
from tests.fuzz.targets.wires import bitcoin_txs, corpus, watching

TOPICS = (b"rawtx", b"sequence", b"hashblock")


@cache
def published() -> dict[bytes, list[bytes]]:
    txid = bytes(range(32))
    counted = [txid + label + bytes(8) for label in (b"A", b"R")]
    return {
        b"rawtx": bitcoin_txs(),
        b"sequence": [*counted, txid + b"C", txid + b"D"],
        b"hashblock": [txid],
    }


def drawn(dice: Random) -> bytes:
    """The topic, a zero, and the body."""
    topic = dice.choice(TOPICS)
    return topic + b"\0" + mutated(dice, dice.choice(published()[topic]), others=bitcoin_txs())


def index() -> WatchIndex:
    return watching(tuple(bytes.fromhex(one) for one in corpus("bitcoin")["watched"]))


@asynccontextmanager
async def hearing() -> AsyncIterator[Check]:
    client = JsonRpcClient(URL, setting="coin.btc")
    news = News(
        SignalBuffer(),
        MempoolReader(BitcoinRpc(client), "BTC"),
        index(),
        [topic.decode() for topic in TOPICS],
    )
    heard = 0

    async def check(data: bytes) -> None:
        nonlocal heard
        topic, _, body = data.partition(b"\0")
        heard += 1
        try:
            news.hear(Published(topic.decode(), body, 0), float(heard))
        except (BadMessageError, TransientError) as error:
            _look_at(str(error))

    yield check
    await client.aclose()


def _look_at(said: str) -> None:
    assert 0 < len(said) < 1000


POOL = [{"id": "ab" * 32, "blob_size": 1500, "weight": 1500, "fee": 30_640_000}] * 2


def drawn_pool(dice: Random) -> bytes:
    data = as_json(mutated_json(dice, POOL))
    return mutated(dice, data) if dice.random() < 0.3 else data


@asynccontextmanager
async def reading() -> AsyncIterator[Check]:
    async def check(data: bytes) -> None:
        assert all(len(txid) <= 32 for txid in _txids(data))

    yield check


TARGETS = [
    Target("bitcoin-news", drawn, hearing, cases=1500),
    Target("monero-news", drawn_pool, reading, cases=2000),
]
