"""Monero's driver in conversation with a node whose recorded answers were damaged on the way.

Answers are bytes, JSON or epee, by path and body of the request. A damage is `{"of": key, "body":
text}`, the answer's body, or `{"of": key, "raw": text}`, all that is on the wire; both latin-1.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from random import Random
from typing import Any

import trio

from actors.core.assets import Chain
from daemon.drivers.monero import MoneroSource
from daemon.drivers.monero_rpc import open_monero
from daemon.drivers.monero_scanner import Scanner
from tests.fuzz.engine import Check, Target
from tests.fuzz.mutation import as_json, mutated, mutated_json
from tests.fuzz.replay import ANSWER_S, _framed, key_of
from tests.fuzz.targets.nodes import URL, Payment, held
from tests.fuzz.targets.wires import corpus
from tests.helpers.http_node import Request, _read
from tests.helpers.recording_log import RecordingLog

XMR = Chain("xmr", "Monero", "monero", "XMR", 120, 10, unlock_blocks=10)


def monero_source(url: str, recorded: dict[str, Any]) -> MoneroSource:
    """Without worker processes: nothing but the conversation takes time."""
    log = RecordingLog()
    return MoneroSource(
        open_monero([url], setting="coin.xmr", log=log),
        chain=XMR,
        view_keys=lambda: [bytes.fromhex(recorded["view_key"])],
        log=log,
        scanner=Scanner(workers=0),
    )


@cache
def answers() -> dict[str, bytes]:
    return {
        key_of(target, body): base64.b64decode(answer)
        for target, body, answer in corpus("monero")["answers"]
    }


def drawn(dice: Random) -> bytes:
    keys = sorted(answers())
    return as_json([_damage(dice, dice.choice(keys)) for _ in range(dice.choice((1, 1, 2, 3)))])


def _damage(dice: Random, key: str) -> dict[str, str]:
    body = answers()[key]
    if dice.random() < 0.15:
        return {"of": key, "raw": _framed(dice, body.decode("latin-1"))}
    if body.startswith(b"{") and dice.random() < 0.8:
        body = as_json(mutated_json(dice, json.loads(body)))
    else:
        body = mutated(dice, body, others=list(answers().values()))
    return {"of": key, "body": body.decode("latin-1")}


class MoneroReplay:
    """Serves answers with these damages to one conversation."""

    def __init__(self, damages: list[dict[str, str]]) -> None:
        self._damages = {one["of"]: one for one in damages}

    async def serve(self, stream: Any) -> None:
        try:
            while (request := await _read(stream, 0)) is not None:
                # Time must pass, or who asks again at once would be answered without end.
                await trio.sleep(ANSWER_S)
                if await self._answer(request) is False:
                    break
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            await trio.aclose_forcefully(stream)

    async def _answer(self, request: Request) -> bool:
        key = key_of(request.target, request.body.decode("latin-1"))
        damage = self._damages.get(key, {})
        if "raw" in damage:
            await request.stream.send_all(damage["raw"].encode("latin-1", "replace"))
            return False
        if "body" in damage:
            await request.answer(damage["body"].encode("latin-1"))
        elif key in answers():
            await request.answer(answers()[key])
        else:
            await request.answer(b"", status=404)
        return True


def made_of_plain_bytes(payment: Payment, damages: list[dict[str, str]]) -> bool:
    """Whether a damaged block's miner is paid so much: all other amounts are sealed and proved."""
    rest, number = payment[2], bytearray()
    while rest >= 0x80:
        number.append(rest & 0x7F | 0x80)
        rest >>= 7
    varint = bytes([*number, rest]).decode("latin-1")
    return any(varint in (damage.get("body") or damage["raw"]) for damage in damages)


@asynccontextmanager
async def talking() -> AsyncIterator[Check]:
    recorded = corpus("monero")

    def open_source() -> MoneroSource:
        return monero_source(URL, recorded)

    honest = await held(open_source, MoneroReplay([]), recorded)
    assert not honest.errors, honest.errors
    assert honest.outputs

    async def check(data: bytes) -> None:
        damages = json.loads(data)
        talk = await held(open_source, MoneroReplay(damages), recorded)
        for payment in talk.outputs - honest.outputs:
            assert made_of_plain_bytes(payment, damages), f"nobody paid {payment}"

    yield check


TARGETS = [
    Target("monero-node", drawn, talking, cases=25, per_session=50, has_own_time=True),
]
