"""Takes down what real nodes answer: `python -m tests.fuzz.record [bitcoin evm monero ton]`.

Writes corpus/*.json, which is committed. A corpus is small, and made anew only when a driver asks
something new.
"""

from __future__ import annotations

import base64
import http.client
import json
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from daemon.drivers.bitcoin import BitcoinSource, ZmqChoice
from daemon.drivers.evm_internal import Way
from daemon.drivers.jsonrpc import JsonRpcClient, Login
from tests.fuzz.conversation import Conversation
from tests.fuzz.targets.monero_node import monero_source
from tests.fuzz.targets.nodes import bitcoin_source, evm_source, ton_source
from tests.fuzz.targets.wires import CORPUS, watching
from tests.helpers.anvil import AnvilNode, new_address
from tests.helpers.bitcoind import BitcoinNode
from tests.helpers.http_node import HttpNode, Request, http_node
from tests.helpers.monero_address import decode
from tests.helpers.monero_chain import mixed_chain, node_of
from tests.helpers.monero_data import destination
from tests.helpers.recording_log import RecordingLog
from tests.helpers.ton import COIN_BASE, TonPeer

MONERO_BLOCKS = 12
"""So far below the tip are the two that are read."""


class Tape:
    """Hands requests on to a real node and keeps what it answers."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.taken: dict[str, Any] = {}

    async def behave(self, request: Request) -> None:
        status, body = await trio.to_thread.run_sync(self._ask, request)
        self._keep(request, body, status)
        await request.answer(body, status=status)

    def _ask(self, request: Request) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {
            name: value
            for name, value in request.headers.items()
            if name in ("authorization", "content-type")
        }
        method = "POST" if request.body else "GET"
        connection.request(method, request.target, request.body or None, headers)
        response = connection.getresponse()
        body = response.read()
        connection.close()
        return response.status, body

    def _keep(self, request: Request, body: bytes, status: int) -> None:
        if status != 200 or body[:1] not in b"{[":
            return
        answer = json.loads(body)
        if b'"params"' in request.body:
            answers = answer if isinstance(answer, list) else [answer]
            by_id = {one["id"]: one for one in answers}
            for call in request.calls:
                one = by_id[call["id"]]
                if one.get("error") is None and "result" in one:
                    key = json.dumps([call["method"], call.get("params", [])])
                    self.taken[key] = one["result"]
        else:
            self.taken[json.dumps([request.target, request.body.decode()])] = answer

    def by_method(self) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {}
        for key, result in self.taken.items():
            method, params = json.loads(key)
            found.setdefault(method, []).append([params, result])
        return found


@asynccontextmanager
async def taped(port: int) -> AsyncIterator[tuple[Tape, HttpNode]]:
    tape = Tape(port)
    async with http_node(tape.behave) as node:
        yield tape, node


def write(name: str, content: dict[str, Any]) -> None:
    CORPUS.mkdir(exist_ok=True)
    text = json.dumps(content, indent=0, separators=(",", ":"))
    (CORPUS / f"{name}.json").write_text(text + "\n")
    print(f"{name}: {len(text)} bytes")


async def bitcoin() -> None:
    with BitcoinNode("btc") as node:
        node.fund(3)
        ours = {kind: node.new_address(kind) for kind in ("bech32", "legacy", "p2sh-segwit")}
        for number, address in enumerate(ours.values()):
            node.pay(address, 100_000 + number)
        node.mine(1)
        node.pay(ours["bech32"], 200_000)
        node.mine(1)
        node.pay(ours["legacy"], 300_000)
        tip = node.height()
        watched = [node.rpc("getaddressinfo", one)["scriptPubKey"] for one in ours.values()]
        index = watching(tuple(bytes.fromhex(one) for one in watched))
        async with taped(int(node.url.rpartition(":")[2])) as (tape, tap):
            client = JsonRpcClient(
                tap.url, setting="coin.btc", login=Login(node.user, node.password)
            )
            source = BitcoinSource(
                client, chain="btc", asset="BTC", log=RecordingLog(), zmq=ZmqChoice(enabled=False)
            )
            held = Conversation(source, index)
            await held.hold(range(tip - 3, tip + 1))
            await source.aclose()
        assert not held.errors, held.errors
        assert len(held.outputs) == 5
        write(
            "bitcoin",
            {"watched": watched, "heights": [tip - 3, tip + 1], "answers": tape.by_method()},
        )
    assert bitcoin_source


async def evm() -> None:
    with AnvilNode(31337) as node:
        ours = [new_address(number) for number in (1, 2, 3)]
        token, payer = node.deploy("Token", 18, 10**27), node.deploy("Payer")
        node.mine()
        node.pay(ours[0], 10**17)
        node.pay_token(token, ours[1], 5 * 10**18)
        node.mine()
        node.pay_batch(payer, {ours[1]: 11, ours[2]: 22})
        node.pay_token_batch(payer, token, {ours[0]: 33, ours[2]: 44})
        node.mine()
        node.pay(ours[2], 10**16)
        tip = node.height()
        corpus = {"watched": ours, "token": token, "heights": [tip - 2, tip + 1]}
        index = watching(tuple(bytes.fromhex(one[2:]) for one in ours))
        async with taped(node.port) as (tape, tap):
            for way in (Way.DEBUG_TRACE, Way.TRACE_BLOCK, Way.NONE):
                source = evm_source(tap.url, corpus, way)
                held = Conversation(source, index)
                await held.hold(range(tip - 2, tip + 1))
                await source.aclose()
                print("evm", way, held.errors, len(held.outputs))
        write("evm", {**corpus, "answers": tape.by_method()})


async def monero() -> None:
    with tempfile.TemporaryDirectory() as folder:
        chain = await trio.to_thread.run_sync(mixed_chain, Path(folder))
        with node_of(chain) as node:
            tip = node.height() - 1
            watched = [
                destination(decode(address).spend, chain.view_key)
                for address in chain.addresses.values()
            ]
            recorded = {
                "watched": [one.hex() for one in watched],
                "view_key": chain.view_key.hex(),
                "heights": [tip - MONERO_BLOCKS, tip - MONERO_BLOCKS + 2],
            }
            taken: dict[str, Any] = {}

            class Bytes(Tape):
                def _keep(self, request: Request, body: bytes, status: int) -> None:
                    if status == 200:
                        asked = json.dumps([request.target, request.body.decode("latin-1")])
                        taken[asked] = base64.b64encode(body).decode()

            tape = Bytes(int(node.url.rpartition(":")[2]))
            async with http_node(tape.behave) as tap:
                source = monero_source(tap.url, recorded)
                held = Conversation(source, watching(tuple(watched)))
                await held.hold(range(*recorded["heights"]))
                await source.aclose()
            assert not held.errors, held.errors
            print("monero", len(held.outputs), {key[:60]: len(one) for key, one in taken.items()})
            assert held.outputs
            found = [[*json.loads(key), answer] for key, answer in taken.items()]
            write("monero", {**recorded, "answers": found})


async def ton() -> None:
    with TonPeer() as peer:
        ours = peer.wallet("ours")
        jetton = peer.create_jetton("stablecoin")
        peer.mint(jetton, peer.payer, 10**9)
        peer.mine()
        first = peer.height()
        peer.pay(ours, 2 * COIN_BASE, comment="inv-1")
        peer.pay_jetton(jetton, ours, 1_000_000, comment="inv-2")
        peer.flood(2)
        peer.mine()
        peer.pay(ours, 3 * COIN_BASE)
        peer.mine()
        peer.pay(ours, COIN_BASE)
        tip = peer.height()
        corpus: dict[str, Any] = {
            "watched": [
                ours.account.hex(),
                (ours.account + b"\0inv-1").hex(),
                (ours.account + b"\0inv-2").hex(),
            ],
            "jetton": jetton.account.hex(),
            "heights": [first + 1, tip + 1],
        }
        index = watching(tuple(bytes.fromhex(one) for one in corpus["watched"]))
        answers: list[Any] = []
        async with taped(peer.port) as (tape, tap):
            for v3 in (True, False):
                peer.set(v3=v3, v2=not v3)
                tape.taken.clear()
                source = ton_source(tap.url, corpus)
                held = Conversation(source, index)
                await held.hold(range(first + 1, tip + 1))
                await source.aclose()
                print("ton", "v3" if v3 else "v2", held.errors, sorted(held.outputs))
                answers += [[*json.loads(key), answer] for key, answer in tape.taken.items()]
        write("ton", {**corpus, "answers": answers})


def main() -> None:
    wanted = sys.argv[1:] or ["bitcoin", "evm", "monero", "ton"]
    for name in wanted:
        trio.run({"bitcoin": bitcoin, "evm": evm, "monero": monero, "ton": ton}[name])


if __name__ == "__main__":
    main()
