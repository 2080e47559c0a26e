"""Drivers in conversation with nodes whose recorded answers were damaged on the way."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache, partial
from random import Random
from typing import Any

from actors.core.assets import Asset, Chain
from daemon.drivers.bitcoin import BitcoinSource, ZmqChoice
from daemon.drivers.endpoints import open_endpoints
from daemon.drivers.evm import EvmSource
from daemon.drivers.evm_internal import Way
from daemon.drivers.jsonrpc import JsonRpcClient
from daemon.drivers.ton import TonSource
from daemon.drivers.ton_rpc import open_ton
from tests.fuzz.conversation import Conversation
from tests.fuzz.engine import Check, Target
from tests.fuzz.replay import Answers, Damage, Replay, wired
from tests.fuzz.targets.wires import corpus, watching
from tests.helpers import bitcoin_tx
from tests.helpers.recording_log import RecordingLog

URL = "http://127.0.0.1:1"
ETH = Chain("eth", "Ethereum", "evm", "ETH", 12, 12)
ETHER = Asset("ETH", "eth", "ETH", "Ether", 18)
TON = Chain("ton", "TON", "ton", "TON", 5, 1)
TONCOIN = Asset("TON", "ton", "TON", "Toncoin", 9)
Payment = tuple[bytes, str, int]
"""(destination, asset, base units)"""


# --- the drivers, as the daemon opens them --------------------------------------------------------


def bitcoin_source(url: str) -> BitcoinSource:
    return BitcoinSource(
        JsonRpcClient(url, setting="coin.btc"),
        chain="btc",
        asset="BTC",
        log=RecordingLog(),
        zmq=ZmqChoice(enabled=False),
    )


def evm_source(url: str, recorded: dict[str, Any], way: Way) -> EvmSource:
    token = Asset("TOKEN", "eth", "TOK", "Token", 18, bytes.fromhex(recorded["token"][2:]))
    log = RecordingLog()
    return EvmSource(
        open_endpoints([url], setting="coin.eth", chain_id=31337, log=log),
        chain=ETH,
        assets=[ETHER, token],
        log=log,
        chain_id=31337,
        internal_way=way,
        open_destinations=lambda: [bytes.fromhex(one[2:]) for one in recorded["watched"]],
    )


def ton_source(url: str, recorded: dict[str, Any]) -> TonSource:
    jetton = Asset("USDT_TON", "ton", "USDT", "Tether", 9, bytes.fromhex(recorded["jetton"]))
    log = RecordingLog()
    return TonSource(
        open_ton([url], setting="coin.ton", log=log, network="mainnet"),
        chain=TON,
        assets=(TONCOIN, jetton),
        log=log,
        open_destinations=None,
    )


# --- conversations --------------------------------------------------------------------------------


async def held(open_source: Callable[[], Any], replay: Replay, recorded: Any) -> Conversation:
    """A whole conversation with the node that `replay` is."""
    watched = tuple(bytes.fromhex(one.removeprefix("0x")) for one in recorded["watched"])
    async with wired(replay.serve):
        source = open_source()
        talk = Conversation(source, watching(watched))
        try:
            await talk.hold(range(*recorded["heights"]))
        finally:
            await source.aclose()
    return talk


Allowed = Callable[[Payment, list[Damage]], bool]
"""Whether damages made the payment, by a reading of them that is not the driver's."""


def session(
    answers: Callable[[], Answers],
    open_source: Callable[[], Any],
    recorded: Callable[[], Any],
    allowed: Allowed,
) -> Any:
    """A session of one driver; it begins with the conversation without damage."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Check]:
        honest = await held(open_source, Replay(answers()), recorded())
        assert not honest.errors, honest.errors
        assert honest.outputs

        async def check(data: bytes) -> None:
            damages: list[Damage] = json.loads(data)
            talk = await held(open_source, Replay(answers(), damages), recorded())
            for payment in talk.outputs - honest.outputs:
                assert allowed(payment, damages), f"nobody paid {payment}"

        yield check

    return opened


# --- Bitcoin --------------------------------------------------------------------------------------


@cache
def bitcoin_answers() -> Answers:
    by_method = corpus("bitcoin")["answers"]
    return Answers(
        [((name, params), one) for name, all_ in by_method.items() for params, one in all_]
    )


def made_of_bytes(payment: Payment, damages: list[Damage]) -> bool:
    """Whether a damaged block or transaction pays so, to the slow reader."""
    return any(
        (out.script, "BTC", out.amount) == payment
        for damage in damages
        for tx in _read(damage.get("result"))
        for out in tx.outs
    ) or any("raw" in damage for damage in damages)


def _read(result: Any) -> list[bitcoin_tx.Tx]:
    try:
        raw = bytes.fromhex(result)
    except (TypeError, ValueError):
        return []
    for read in (bitcoin_tx.read_block, lambda data: [bitcoin_tx.read_tx(data)]):
        try:
            return read(raw)
        except (bitcoin_tx.TruncatedError, OverflowError):
            continue
    return []


# --- Ethereum and its like ------------------------------------------------------------------------


@cache
def evm_answers() -> Answers:
    by_method = corpus("evm")["answers"]
    return Answers(
        [((name, params), one) for name, all_ in by_method.items() for params, one in all_]
    )


def made_of_hex(payment: Payment, damages: list[Damage]) -> bool:
    """Whether the amount stands anywhere in what was damaged, and the address is ours."""
    told = json.dumps(damages).lower()
    return f"{payment[2]:x}" in told and f"0x{payment[0].hex()}" in corpus("evm")["watched"]


# --- TON ------------------------------------------------------------------------------------------


@cache
def ton_answers() -> Answers:
    return Answers([((target, body), one) for target, body, one in corpus("ton")["answers"]])


def made_of_text(payment: Payment, damages: list[Damage]) -> bool:
    """Whether the amount stands anywhere in what was damaged; what is in a cell is not read."""
    told = json.dumps(damages)
    return str(payment[2]) in told or "te6cc" in told


# --------------------------------------------------------------------------------------------------


def _drawn(answers: Callable[[], Answers], dice: Random) -> bytes:
    return answers().damaged(dice)


def _node(name: str, answers: Any, open_source: Any, allowed: Allowed, cases: int) -> Target:
    recorded = partial(corpus, name.partition("-")[0])
    return Target(
        f"{name}-node",
        partial(_drawn, answers),
        session(answers, open_source, recorded, allowed),
        cases=cases,
        per_session=50,
        has_own_time=True,
    )


TARGETS = [
    _node("bitcoin", bitcoin_answers, partial(bitcoin_source, URL), made_of_bytes, 60),
    *(
        _node(
            f"evm-{way.name.lower().replace('_', '-')}",
            evm_answers,
            lambda way=way: evm_source(URL, corpus("evm"), way),
            made_of_hex,
            40,
        )
        for way in (Way.DEBUG_TRACE, Way.TRACE_BLOCK, Way.NONE)
    ),
    _node("ton", ton_answers, lambda: ton_source(URL, corpus("ton")), made_of_text, 40),
]
