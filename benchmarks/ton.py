"""Following TON: what a masterchain block costs, in time and in questions to the server.

Blocks are pages of toncenter's API v3 with 1000 transactions, some 2.5 MB of JSON, none of them
ours; one in ten goes to a jetton wallet. Watched are wallets of invoices, each with the jetton
wallet of one master.
"""

from __future__ import annotations

import base64
import random
import statistics
import time
from collections.abc import Sequence
from typing import Any, cast
from uuid import UUID

import orjson
import trio
from pytoniq_core.boc import Builder

from actors.core.watch_index import WatchIndex
from actors.ports import TipMoved
from benchmarks.report import say
from daemon.drivers import ton_wire as wire
from daemon.drivers.ton_jettons import LAYOUTS, Jetton, Jettons, WalletAddress
from daemon.drivers.ton_match import Matcher
from daemon.drivers.ton_rpc import TonRpc
from tests.helpers.recording_log import RecordingLog
from tests.helpers.ton import TonPeer
from tests.helpers.ton_shop import Shop, away, source_of

_INVOICE = UUID(int=1)


def run(
    rounds: int = 7, watched: Sequence[int] = (1_000, 100_000, 1_000_000), txs: int = 1_000
) -> dict[str, float]:
    """One block parsed and searched, against orjson.loads alone, taking turns, medians.

    And how long it takes to tell the jetton wallet of each invoice, which is done once.
    """
    return trio.run(_run, rounds, watched, txs)


def follow(
    blocks: int = 20, block_txs: int = 2_500, live_blocks: int = 20, live_s: float = 1.5
) -> dict[str, float]:
    """A daemon's driver on the test peer, over HTTP, in a process of its own.

    First it catches up over blocks of 2500 transactions, as 1000 per second and a block every 2.5 s
    would make them: transactions per second of this process's CPU time, and per second altogether,
    in which the peer is busy too. Then it follows blocks as they are made: of 100 transactions, and
    all that is asked is counted, questions about the tip included; of 1000 for each second, and it
    is noted how many blocks the peer is ahead after each look, at most.
    """
    return trio.run(_follow, blocks, block_txs, live_blocks, live_s)


# --- one block ------------------------------------------------------------------------------------


async def _run(rounds: int, watched: Sequence[int], txs: int) -> dict[str, float]:
    dice = random.Random(7)
    small, middle, large = watched
    answer = _page(dice, txs)
    matchers: dict[int, tuple[Matcher, WatchIndex]] = {}
    figures: dict[str, float] = {"page_mb": len(answer) / 1e6}
    for count in watched:
        say(f"watches {count} invoices")
        began = time.perf_counter()
        matchers[count] = await _watching(dice, count)
        figures["wallets_per_s"] = count / (time.perf_counter() - began)
    took: dict[str, list[float]] = {name: [] for name in ("parse", *map(str, watched))}
    for number in range(rounds + 1):
        began = time.perf_counter()
        orjson.loads(answer)
        parsed = time.perf_counter()
        if number:
            took["parse"].append(parsed - began)
        for count, (matcher, index) in matchers.items():
            began = time.perf_counter()
            _, page = wire.page(orjson.loads(answer), 7)
            await matcher.follow(index)
            for tx in page.txs:
                assert await matcher.match(tx, index) is None
            if number:
                took[str(count)].append(time.perf_counter() - began)
    medians = {name: statistics.median(some) for name, some in took.items()}
    return {
        "match_100k_to_parse": medians[str(middle)] / medians["parse"],
        "match_1m_to_1k": medians[str(large)] / medians[str(small)],
        "parse_ms": medians["parse"] * 1000,
        "match_100k_ms": medians[str(middle)] * 1000,
        "txs_per_s": txs / medians[str(middle)],
        **figures,
    }


async def _watching(dice: random.Random, count: int) -> tuple[Matcher, WatchIndex]:
    jettons = Jettons(cast("TonRpc", None), (), log=RecordingLog())
    code = Builder().store_bytes(b"code").end_cell()
    wallet = WalletAddress(LAYOUTS["stablecoin"], master=_account(dice), code=code)
    jettons.usable = (Jetton("USDT_TON", "stablecoin", wallet),)
    jettons.is_checked = True
    index = WatchIndex()
    # One invoice owns them all: only the keys are looked at.
    index.destinations = {_account(dice): _INVOICE for _ in range(count)}
    matcher = Matcher(cast("TonRpc", None), jettons, "TON")
    await matcher.follow(index)
    return matcher, index


def _account(dice: random.Random) -> bytes:
    return bytes(1) + dice.randbytes(32)


def _page(dice: random.Random, txs: int) -> bytes:
    return orjson.dumps({"transactions": [_tx(dice, n) for n in range(txs)], "address_book": {}})


def _hash(dice: random.Random) -> str:
    return base64.b64encode(dice.randbytes(32)).decode()


def _tx(dice: random.Random, number: int) -> dict[str, Any]:
    account, payer = wire.raw_address(_account(dice)), wire.raw_address(_account(dice))
    state = {
        "hash": _hash(dice), "balance": "1000000000", "extra_currencies": {},
        "account_status": "active", "frozen_hash": None, "data_hash": _hash(dice),
        "code_hash": _hash(dice),
    }  # fmt: skip
    message = {
        "hash": _hash(dice), "source": payer, "destination": account, "value": "1000000000",
        "value_extra_currencies": {}, "fwd_fee": "266669", "ihr_fee": "0", "created_lt": "7000001",
        "created_at": "1795183489", "opcode": "0x178d4519" if number % 10 == 0 else "0x00000000",
        "decoded_opcode": "text_comment", "ihr_disabled": True, "bounce": False, "bounced": False,
        "import_fee": None, "init_state": None,
        "message_content": {
            "hash": _hash(dice), "body": "te6cckEBAQEACAAADAAAAABoaeh7Muk=",
            "decoded": {"@type": "text_comment", "comment": "hi"},
        },
    }  # fmt: skip
    return {
        "account": account, "hash": _hash(dice), "lt": "8000000", "now": 1795183489,
        "mc_block_seqno": 7, "trace_id": _hash(dice), "trace_external_hash": _hash(dice),
        "prev_trans_hash": _hash(dice), "prev_trans_lt": "0", "orig_status": "active",
        "end_status": "active", "total_fees": "5154931", "total_fees_extra_currencies": {},
        "description": {
            "type": "ord", "aborted": False, "destroyed": False, "credit_first": True,
            "storage_ph": {"storage_fees_collected": "0", "status_change": "unchanged"},
            "credit_ph": {"credit": "1000000000"},
            "compute_ph": {
                "skipped": False, "success": True, "msg_state_used": False, "gas_fees": "123600",
                "gas_used": "2036", "gas_limit": "35000000", "mode": 0, "exit_code": 0,
                "vm_steps": 5, "vm_init_state_hash": _hash(dice),
                "vm_final_state_hash": _hash(dice),
            },
        },
        "block_ref": {"workchain": 0, "shard": "8000000000000000", "seqno": 4},
        "in_msg": message, "out_msgs": [message] if number % 2 else [],
        "account_state_before": state, "account_state_after": state, "emulated": False,
        "finality": "finalized",
    }  # fmt: skip


# --- a server -------------------------------------------------------------------------------------


async def _follow(blocks: int, block_txs: int, live_blocks: int, live_s: float) -> dict[str, float]:
    with TonPeer() as peer:
        since = await away(peer.height)
        say(f"makes {blocks} blocks of {block_txs} transactions")
        for _ in range(blocks):
            await away(peer.flood, block_txs)
            await away(peer.mine)
        figures = await _catch_up(peer, since, blocks, block_txs)
        say(f"follows {live_blocks} blocks, twice")
        usual, _ = await _live(peer, live_blocks, live_s, block_txs=100)
        _, behind = await _live(peer, live_blocks, live_s, block_txs=round(1000 * live_s))
        return {**figures, "requests_per_block": usual, "blocks_behind_worst": behind}


async def _catch_up(peer: TonPeer, since: int, blocks: int, block_txs: int) -> dict[str, float]:
    shop = Shop(*(bytes(1) + n.to_bytes(32, "big") for n in range(10_000)))
    async with source_of(peer.url) as source, source.signals(shop.index):
        await source.status()
        await away(peer.forget_requests)
        # The peer's work on a block's JSON is done once, so that ours is what is measured.
        for seqno in range(since + 1, since + blocks + 1):
            await away(peer.get, "/api/v3/transactionsByMasterchainBlock", seqno=seqno, limit=1000)
        began, cpu = time.perf_counter(), time.process_time()
        count = 0
        async for _ in source.read_blocks(range(since + 1, since + blocks + 1), shop.index):
            count += 1
        took, cpu = time.perf_counter() - began, time.process_time() - cpu
    assert count == blocks, "all blocks were read"
    return {
        "catch_up_txs_per_cpu_s": blocks * block_txs / cpu,
        "catch_up_txs_per_s": blocks * block_txs / took,
    }


async def _live(
    peer: TonPeer, blocks: int, interval_s: float, *, block_txs: int
) -> tuple[float, int]:
    """(questions per block, how many blocks behind it was at most)."""
    shop = Shop(bytes(33))
    worst = 0
    async with (
        source_of(peer.url, poll_interval_s=1.0) as source,
        source.signals(shop.index) as signals,
    ):
        height = started = (await source.tip()).height
        await away(peer.forget_requests)
        await away(peer.auto_mine, interval_s, flood=block_txs)
        async for signal in signals:
            if isinstance(signal, TipMoved):
                heights = range(height + 1, (await source.tip()).height + 1)
                async for block, _ in source.read_blocks(heights, shop.index):
                    height = block.height
                worst = max(worst, await away(peer.height) - height)
            if height - started >= blocks:
                break
        await away(peer.auto_mine, None)
        requests = await away(peer.requests)
    return sum(requests.values()) / (height - started), worst
