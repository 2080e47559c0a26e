"""Nodes' websockets: answers, news and frames that were damaged on the way.

A case is `{"damages": …, "news": […], "spoilt": {frame: seed}}`: damages as of a whole
conversation, the messages that follow a subscription, and which frames are damaged as bytes.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any

from daemon.drivers.evm_internal import Way
from daemon.drivers.ton import TonSource
from daemon.drivers.ton_rpc import open_ton
from tests.fuzz.engine import Check, Target
from tests.fuzz.mutation import as_json, mutated_json
from tests.fuzz.replay import ID, Answers, Replay
from tests.fuzz.sockets import SocketReplay, Switch
from tests.fuzz.targets.nodes import (
    TON,
    TONCOIN,
    URL,
    Payment,
    evm_answers,
    evm_source,
    held,
    ton_answers,
)
from tests.fuzz.targets.wires import corpus
from tests.helpers.recording_log import RecordingLog

WS_URL = "ws://127.0.0.1:1"
FRAMES = 40
"""About as many as an honest conversation has."""


@dataclass(frozen=True)
class Wire:
    """A kind of node with a websocket."""

    recorded: str
    answers: Callable[[], Answers]
    news: Callable[[], list[Any]]
    open_source: Callable[[], Any]
    peer: Callable[[Any], tuple[Any, SocketReplay]]
    """What serves a case, and the part of it that is the websocket."""
    amount: Callable[[int], str]
    """As the node writes it."""


def drawn(wire: Wire, dice: Random) -> bytes:
    case: dict[str, Any] = {"damages": [], "news": wire.news(), "spoilt": {}}
    kind = dice.random()
    if kind < 0.3:
        case["damages"] = json.loads(wire.answers().damaged(dice))
    elif kind < 0.7:
        at = dice.randrange(len(case["news"]))
        case["news"] = list(case["news"])
        case["news"][at] = mutated_json(dice, case["news"][at])
        if dice.random() < 0.2:
            case["news"] *= dice.choice((2, 50))
    if kind > 0.6:
        numbers = [dice.randrange(FRAMES) for _ in range(dice.choice((1, 1, 2)))]
        case["spoilt"] = {str(number): dice.randrange(2**32) for number in numbers}
    return as_json(case)


def session(wire: Wire) -> Any:
    """It begins with the conversation without damage, in which the news alone tell of payments."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Check]:
        plain = {"damages": [], "news": wire.news(), "spoilt": {}}
        peer, _ = wire.peer(plain)
        recorded = corpus(wire.recorded)
        honest = await held(wire.open_source, peer, recorded)
        assert not honest.errors, honest.errors
        assert honest.outputs

        async def check(data: bytes) -> None:
            case = json.loads(data)
            peer, socket = wire.peer(case)
            talk = await held(wire.open_source, peer, recorded)
            told = json.dumps(case).lower() + socket.told.decode("latin-1").lower()
            for payment in talk.outputs - honest.outputs:
                assert _allowed(wire, payment, told), f"nobody paid {payment}"

        yield check

    return opened


def _allowed(wire: Wire, payment: Payment, told: str) -> bool:
    """Whether the amount stands in what was damaged; what is in a cell is not read."""
    return wire.amount(payment[2]) in told or "te6cc" in told


def _spoilt(case: Any) -> dict[int, int]:
    return {int(number): seed for number, seed in case["spoilt"].items()}


# --- Ethereum and its like ------------------------------------------------------------------------


@cache
def evm_news() -> list[Any]:
    """A block and a payment, as eth_subscribe has them told; @kind@ stands for the id."""
    by_method = corpus("evm")["answers"]
    head = next(one for params, one in by_method["eth_getBlockByNumber"] if params[0] == "latest")
    tx = by_method["eth_getTransactionByHash"][0][1]
    return [
        {
            "jsonrpc": "2.0",
            "method": "eth_subscription",
            "params": {"subscription": f"@{kind}@", "result": result},
        }
        for kind, result in (("newHeads", head), ("newPendingTransactions", tx))
    ]


def evm_peer(case: Any) -> tuple[Any, SocketReplay]:
    replay = Replay(evm_answers(), case["damages"])
    subscriptions: dict[str, str] = {}

    def answer(call: Any) -> Any:
        if call["method"] == "eth_subscribe":
            name = subscriptions.setdefault(call["params"][0], hex(len(subscriptions) + 1))
            return {"jsonrpc": "2.0", "id": call["id"], "result": name}
        damage, honest = replay.rpc(call)
        if "raw" in damage:
            return damage["raw"].partition("\r\n\r\n")[2].replace(ID, json.dumps(call["id"]))
        return honest

    def hear(text: str) -> list[Any]:
        asked = json.loads(text)
        calls = asked if isinstance(asked, list) else [asked]
        found = [answer(call) for call in calls]
        raw = [one for one in found if isinstance(one, str)]
        messages: list[Any] = raw[:1] or [found if isinstance(asked, list) else found[0]]
        if any(call["method"] == "eth_subscribe" for call in calls):
            messages += [_named(one, subscriptions) for one in case["news"]]
        return messages

    socket = SocketReplay(hear, _spoilt(case))
    return socket, socket


def _named(message: Any, subscriptions: dict[str, str]) -> str:
    text = json.dumps(message)
    for kind, name in subscriptions.items():
        text = text.replace(f"@{kind}@", name)
    return text


# --- TON ------------------------------------------------------------------------------------------


@cache
def ton_news() -> list[Any]:
    """Answers to the subscription, transactions that a shard has confirmed, and their end."""
    found = []
    for target, _, answer in corpus("ton")["answers"]:
        if target.startswith("/api/v3/transactionsByMasterchainBlock"):
            txs = [
                {**tx, "emulated": False, "finality": "confirmed"} for tx in answer["transactions"]
            ]
            event = {"type": "transactions", "trace_external_hash_norm": "abc", "transactions": txs}
            found.append(event)
    gone = {"type": "trace_invalidated", "trace_external_hash_norm": "abc"}
    return [{"id": "1", "status": "subscribed"}, *found, gone]


def ton_source() -> TonSource:
    log = RecordingLog()
    watched = [bytes.fromhex(one) for one in corpus("ton")["watched"]]
    return TonSource(
        open_ton([URL], setting="coin.ton", log=log, network="mainnet"),
        chain=TON,
        assets=(TONCOIN,),
        log=log,
        open_destinations=lambda: watched,
    )


def ton_peer(case: Any) -> tuple[Any, SocketReplay]:
    socket = SocketReplay(lambda _: list(case["news"]), _spoilt(case))
    return Switch(Replay(ton_answers(), case["damages"]).serve, socket.serve), socket


# --------------------------------------------------------------------------------------------------

WIRES = {
    "evm-stream": Wire(
        "evm",
        evm_answers,
        evm_news,
        lambda: evm_source(WS_URL, corpus("evm"), Way.NONE),
        evm_peer,
        lambda amount: f"{amount:x}",
    ),
    "ton-stream": Wire("ton", ton_answers, ton_news, ton_source, ton_peer, str),
}
TARGETS = [
    Target(
        name,
        lambda dice, wire=wire: drawn(wire, dice),
        session(wire),
        cases=40,
        per_session=50,
        has_own_time=True,
    )
    for name, wire in WIRES.items()
]
