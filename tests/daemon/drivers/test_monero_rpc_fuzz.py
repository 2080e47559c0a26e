"""Whatever a monerod answers: values of the promised shape, or one of the world's two errors."""

import json
import random
from typing import Any

import pytest

from actors.core.chain_view import BlockRef
from actors.ports import PersistentError, TransientError
from daemon.drivers.monero_rpc import MoneroRpc, NodeInfo, PoolTx, RawBlock, RawTx, open_monero
from tests.helpers.fake_monerod import FakeMonerod, Fault, fake_monerod, rct_tx
from tests.helpers.http_node import Request
from tests.helpers.recording_log import RecordingLog

JUNK: list[Any] = [
    None, True, False, 0, -1, 7, 10, 2**63, 2**64, 1.5, 1e300, "", "OK", "BUSY", "ab", "zz" * 32,
    "AB" * 32, "00" * 32, "\u0000", [], {}, [[]], [None], [{}], {"status": "OK"},
]  # fmt: skip
TXIDS = [rct_tx(name).txid for name in "pqr"]
ROUNDS = 100


async def ask_all(rpc: MoneroRpc) -> list[tuple[object, object]]:
    """(question, answer or error) of every call there is."""
    calls = {
        "info": rpc.info,
        "tip": rpc.tip,
        "header": lambda: rpc.header(7),
        "headers": lambda: rpc.headers(range(5, 20)),
        "header_of": lambda: rpc.header_of(bytes(32)),
        "blocks": lambda: rpc.blocks(7, max_blocks=3),
        "pool_txids": rpc.pool_txids,
        "pool_txs": lambda: rpc.pool_txs(TXIDS),
    }
    answers: list[tuple[object, object]] = []
    for name, call in calls.items():
        try:
            answers.append((name, await call()))
        except (TransientError, PersistentError) as error:
            answers.append((name, error))
    return answers


def check_shape(question: object, answer: Any) -> None:
    if isinstance(answer, TransientError | PersistentError):
        assert "coin.xmr.daemon.url" in str(answer)
        assert len(str(answer)) < 1000
        return
    match question:
        case "info":
            assert isinstance(answer, NodeInfo)
            assert answer.tip_height >= 0
            assert len(answer.tip_hash) == 32
        case "tip" | "header" | "header_of":
            assert answer is None or is_ref(answer)
            assert question != "header" or answer is None or answer.height == 7
        case "headers":
            assert all(is_ref(each) for each in answer)
            assert [each.height for each in answer] == list(range(5, 5 + len(answer)))
        case "blocks":
            assert all(
                isinstance(each, RawBlock) and each.blob.__class__ is bytes for each in answer
            )
            assert len(answer) <= 3
            assert all(is_raw(tx) for each in answer for tx in each.txs)
        case "pool_txids":
            assert all(isinstance(each, bytes) and len(each) == 32 for each in answer)
        case "pool_txs":
            assert all(isinstance(each, PoolTx) and each.txid in TXIDS for each in answer)
            assert all(is_raw(RawTx(each.blob, each.prunable_hash)) for each in answer)
            assert all(each.double_spend_seen in (True, False) for each in answer)


def is_ref(ref: object) -> bool:
    assert isinstance(ref, BlockRef)
    assert ref.height < 2**63
    assert ref.time_s < 2**63
    return ref.height >= 0 and len(ref.hash) == len(ref.parent) == 32 and ref.time_s >= 0


def is_raw(tx: RawTx) -> bool:
    return isinstance(tx.blob, bytes) and (tx.prunable_hash is None or len(tx.prunable_hash) == 32)


def spoiled(value: Any, dice: random.Random) -> Any:
    """The value with one thing in it, at any depth, replaced, dropped or doubled."""
    if isinstance(value, dict) and value and dice.random() < 0.9:
        name = dice.choice(list(value))
        kind = dice.random()
        if kind < 0.1:
            return {key: each for key, each in value.items() if key != name}
        return {**value, name: spoiled(value[name], dice)}
    if isinstance(value, list) and value and dice.random() < 0.9:
        at = dice.randrange(len(value))
        kind = dice.random()
        if kind < 0.2:
            return value[:at] + value[at + 1 :]
        if kind < 0.4:
            return [*value, value[at]]
        return [*value[:at], spoiled(value[at], dice), *value[at + 1 :]]
    if isinstance(value, str) and value and dice.random() < 0.5:
        at = dice.randrange(len(value))
        return value[:at] + dice.choice(["", "g", "0", "\u00e9"]) + value[at + 1 :]
    if isinstance(value, int) and dice.random() < 0.5:
        return value + dice.choice([-1, 1, -(10**6), 10**6])
    return dice.choice(JUNK)


def spoiler(dice: random.Random) -> Fault:
    async def fault(request: Request, body: bytes) -> None:
        if request.target.endswith(".bin") or dice.random() < 0.2:
            damaged = bytearray(body)
            for _ in range(dice.randint(1, 3)):
                damaged[dice.randrange(len(damaged))] = dice.randrange(256)
            body = bytes(damaged) if dice.random() < 0.8 else body[: dice.randrange(len(body))]
        else:
            body = json.dumps(spoiled(json.loads(body), dice)).encode()
        await request.answer(body)

    return fault


@pytest.mark.parametrize("version", [(3, 14), (3, 16), (3, 18)])
async def test_spoiled_answers(version: tuple[int, int]) -> None:
    dice = random.Random(version[1])
    names = [
        "get_info", "get_version", "get_last_block_header", "get_block_header_by_height",
        "get_block_header_by_hash", "get_block_headers_range", "get_block", "/get_blocks.bin",
        "/get_blocks_by_height.bin", "/get_transactions", "/get_transaction_pool_hashes",
    ]  # fmt: skip
    async with fake_monerod(rpc_version=version) as node:
        node.pool = {tx.txid: tx for tx in map(rct_tx, "pqr")}
        for _ in range(ROUNDS):
            node.faults = {name: spoiler(dice) for name in names if dice.random() < 0.5}
            await one_round(node)


async def one_round(node: FakeMonerod) -> None:
    rpc = open_monero([node.url], setting="coin.xmr", log=RecordingLog())
    for question, answer in await ask_all(rpc):
        check_shape(question, answer)
    await rpc.aclose()
