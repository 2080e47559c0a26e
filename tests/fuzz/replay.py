"""A node made of recorded answers, some of which were damaged; and the wire to it, in memory.

A damage is `{"of": key, "result": …}`, `{"of": key, "error": …}` or `{"of": key, "raw": text}`: the
key names the question, `raw` is the whole answer on the wire (latin-1), in which ID stands for the
request's id. Nothing waits for a socket: time passes as soon as everybody waits for it.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import trio
import trio.testing

from tests.fuzz.mutation import as_json, mutated, mutated_json
from tests.helpers.http_node import Request, _read

ID = '"@id@"'
ANSWER_S = 0.01
LONG_POLL_S = 5.0
Damage = dict[str, Any]
Serve = Callable[[trio.abc.Stream], Any]


class Answers:
    """What was recorded, by question: `[method, params]`, or `[target, body]` of TON."""

    def __init__(self, recorded: Sequence[tuple[Any, Any]]) -> None:
        self.by_key = {key_of(*question): result for question, result in recorded}

    def damaged(self, dice: Random) -> bytes:
        """A case: one to three damages, as JSON."""
        keys = sorted(self.by_key)
        chosen = [dice.choice(keys) for _ in range(dice.choice((1, 1, 2, 3)))]
        return as_json([_damage(dice, key, self.by_key[key]) for key in chosen])


def key_of(name: str, more: Any) -> str:
    return json.dumps([name, more])


def _damage(dice: Random, key: str, result: Any) -> Damage:
    chance = dice.random()
    if chance < 0.06:
        error = {"code": dice.choice((-28, -32601, -32000, -5, -8, 429)), "message": "no"}
        return {"of": key, "error": mutated_json(dice, error)}
    if chance < 0.2:
        body = json.dumps({"jsonrpc": "2.0", "id": "@id@", "result": result, "error": None})
        if not key.startswith('["/'):
            return {"of": key, "raw": _framed(dice, body)}
        return {"of": key, "raw": _framed(dice, json.dumps(result))}
    if isinstance(result, str) and len(result) > 40 and dice.random() < 0.7:
        prefix = "0x" if result.startswith("0x") else ""
        return {
            "of": key,
            "result": prefix + mutated(dice, bytes.fromhex(result[len(prefix) :])).hex(),
        }
    return {"of": key, "result": mutated_json(dice, result)}


def _framed(dice: Random, body: str) -> str:
    """A whole answer; damaged in its head or its body."""
    head = dice.choice(
        (
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
            "HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: {}\r\n\r\n",
            "HTTP/1.1 429 Too Many Requests\r\nRetry-After: x\r\nContent-Length: {}\r\n\r\n",
            "HTTP/1.1 401 No\r\nWWW-Authenticate: Digest x\r\nContent-Length: {}\r\n\r\n",
            "HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: {}\r\n\r\n",
        )
    )
    if dice.random() < 0.6:
        spoilt = mutated(dice, body.encode()).decode("latin-1")
        return f"HTTP/1.1 200 OK\r\nContent-Length: {len(spoilt)}\r\n\r\n{spoilt}"
    whole = head.format(len(body)) + body
    return mutated(dice, whole.encode()[:400]).decode("latin-1") + whole[400:]


class Replay:
    """Serves answers with these damages to one conversation."""

    def __init__(self, answers: Answers, damages: Sequence[Damage] = ()) -> None:
        self._answers = answers
        self._damages = {one["of"]: one for one in damages}
        self.unknown: set[str] = set()

    async def serve(self, stream: trio.abc.Stream) -> None:
        try:
            while (request := await _read(stream, 0)) is not None:  # type: ignore[arg-type]
                if await self._answer(request) is False:
                    break
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            await trio.aclose_forcefully(stream)

    async def _answer(self, request: Request) -> bool:
        # Time must pass, or who asks again at once would be answered without end at one moment.
        await trio.sleep(LONG_POLL_S if b"waitfornewblock" in request.body else ANSWER_S)
        if b'"params"' in request.body:
            return await self._answer_rpc(request)
        key = key_of(request.target, request.body.decode())
        damage = self._damages.get(key, {})
        if "raw" in damage:
            await request.stream.send_all(damage["raw"].encode("latin-1"))
            return False
        if "error" in damage:
            await request.answer(as_json(damage["error"]), status=500)
        elif key in self._answers.by_key:
            await request.answer(as_json(damage.get("result", self._answers.by_key[key])))
        else:
            self.unknown.add(key)
            await request.answer(b'{"error":"not found"}', status=404)
        return True

    async def _answer_rpc(self, request: Request) -> bool:
        found = []
        for call in request.calls:
            damage, answer = self.rpc(call)
            if "raw" in damage:
                raw = damage["raw"].replace(ID, json.dumps(call["id"]))
                await request.stream.send_all(raw.encode("latin-1"))
                return False
            found.append(answer)
        is_batch = request.body.lstrip().startswith(b"[")
        await request.answer(as_json(found if is_batch else found[0]))
        return True

    def rpc(self, call: dict[str, Any]) -> tuple[Damage, dict[str, Any]]:
        """The damage and the answer to one JSON-RPC call."""
        key = key_of(call["method"], call.get("params", []))
        damage = self._damages.get(key, {})
        answer = {"jsonrpc": "2.0", "id": call["id"], "result": None, "error": None}
        if "error" in damage:
            answer["error"] = damage["error"]
        elif "result" in damage or key in self._answers.by_key:
            answer["result"] = damage.get("result", self._answers.by_key.get(key))
        else:
            self.unknown.add(key)
            code = -32601 if "eth" in key or "debug" in key or "trace" in key else -8
            answer["error"] = {"code": code, "message": "not recorded"}
        if answer["error"] is None:
            del answer["error"]
        return damage, answer


class _Socket:
    """The little of a socket that is asked for."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def close(self) -> None:
        self._stream.send_stream.close()
        self._stream.receive_stream.close()


@asynccontextmanager
async def wired(serve: Serve) -> AsyncIterator[None]:
    """Every TCP connection that is opened in the block ends at `serve`."""
    before = trio.open_tcp_stream
    async with trio.open_nursery() as nursery:

        async def connect(*_: object, **__: object) -> trio.abc.Stream:
            await trio.lowlevel.checkpoint()
            ours, theirs = trio.testing.memory_stream_pair()
            nursery.start_soon(serve, theirs)
            # Some close the socket instead of the stream.
            ours.socket = _Socket(ours)  # type: ignore[attr-defined]
            return ours

        trio.open_tcp_stream = connect  # type: ignore[assignment]
        try:
            yield
        finally:
            trio.open_tcp_stream = before
            nursery.cancel_scope.cancel()
