"""A monerod that is a script: a made-up chain and pool, served honestly but for the faults set.

Blocks have the real form (so that they can be parsed), transactions are any bytes.
"""

import hashlib
import json
import re
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.helpers import epee
from tests.helpers.http_node import Request, http_node

NO_HASH = bytes(32)
TOO_BIG_HEIGHT = -2
RESTRICTED_TRANSACTIONS = 100


@dataclass(frozen=True)
class Tx:
    """`pruned` and `prunable` together are the whole transaction."""

    pruned: bytes
    prunable: bytes = b""
    prunable_hash: bytes = NO_HASH

    @property
    def txid(self) -> bytes:
        return hashlib.sha256(self.pruned + self.prunable).digest()


@dataclass(frozen=True)
class Block:
    height: int
    parent: bytes
    txs: tuple[Tx, ...] = ()

    @property
    def hash(self) -> bytes:
        return hashlib.sha256(self.blob).digest()

    @property
    def blob(self) -> bytes:
        """As monerod serializes a block whose miner transaction pays nobody."""
        header = b"\x10\x10\x01" + self.parent + bytes(4)
        miner = b"\x02\x00\x01\xff" + _varint(self.height) + b"\x00\x00\x00"
        return header + miner + _varint(len(self.txs)) + b"".join(tx.txid for tx in self.txs)


def rct_tx(name: str) -> Tx:
    """A transaction of version 2 in the chain's and the fake's sense: it can be pruned."""
    return Tx(b"\x02" + name.encode(), b"proofs of " + name.encode(), _hashed(name))


def old_tx(name: str) -> Tx:
    """One of version 1, which has no prunable hash."""
    return Tx(b"\x01" + name.encode(), b"signatures of " + name.encode())


Fault = Callable[[Request, bytes], Awaitable[object]]
"""Answers in the place of the node, which would have answered honestly with these bytes."""


@dataclass
class FakeMonerod:
    """`faults` is by what is asked: a JSON-RPC method, or a path."""

    network: str = "fakechain"
    rpc_version: tuple[int, int] = (3, 14)
    blocks: list[Block] = field(default_factory=list)
    pool: dict[bytes, Tx] = field(default_factory=dict)
    contested: set[bytes] = field(default_factory=set)
    is_restricted: bool = False
    is_pruned: bool = False
    """It has no prunable data any more."""
    digest: "DigestGate | None" = None
    faults: dict[str, Fault] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    logins: list[str | None] = field(default_factory=list)
    connections: set[int] = field(default_factory=set)
    url: str = ""

    def extend(self, *txs: tuple[Tx, ...]) -> None:
        """More blocks, one for each of `txs`."""
        for each in txs:
            parent = self.blocks[-1].hash if self.blocks else NO_HASH
            self.blocks.append(Block(len(self.blocks), parent, each))

    async def behave(self, request: Request) -> object:
        self.connections.add(request.connection)
        self.logins.append(request.headers.get("authorization"))
        if self.digest is not None and not await self.digest.admits(request):
            return None
        name, body = self._answer(request)
        self.asked.append(name)
        if name in self.faults:
            return await self.faults[name](request, body)
        if body == b"":
            return await request.answer(b"", status=404)
        return await request.answer(body)

    def _answer(self, request: Request) -> tuple[str, bytes]:
        if request.target.endswith(".bin"):
            return request.target, self._binary(request.target, epee.unpack(request.body))
        asked = json.loads(request.body)
        if request.target == "/json_rpc":
            name = asked["method"]
            answer = {"id": asked["id"], "jsonrpc": "2.0", **self._rpc(name, asked["params"])}
            return name, json.dumps(answer).encode()
        answer = self._json(request.target, asked)
        return request.target, b"" if answer is None else json.dumps(answer).encode()

    # --- JSON-RPC ---

    def _rpc(self, method: str, asked: dict[str, Any]) -> dict[str, Any]:
        found = getattr(self, f"_{method}", None)
        if found is None:
            return _refusal(-32601, "Method not found")
        result = found(asked)
        return result if "error" in result else {"result": {"status": "OK", **result}}

    def _get_info(self, _: dict[str, Any]) -> dict[str, Any]:
        return {
            "height": len(self.blocks),
            "target_height": 0,
            "top_block_hash": self.blocks[-1].hash.hex(),
            "nettype": self.network,
            "version": "" if self.is_restricted else "0.18.4.0-fake",
            "restricted": self.is_restricted,
            "synchronized": True,
            "tx_pool_size": len(self.pool),
        }

    def _get_version(self, _: dict[str, Any]) -> dict[str, Any]:
        major, minor = self.rpc_version
        return {"version": major << 16 | minor}

    def _get_last_block_header(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"block_header": self._header(len(self.blocks) - 1)}

    def _get_block_header_by_height(self, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["height"] >= len(self.blocks):
            return _refusal(TOO_BIG_HEIGHT, "Requested block height: greater than current top")
        return {"block_header": self._header(asked["height"])}

    def _get_block_header_by_hash(self, asked: dict[str, Any]) -> dict[str, Any]:
        for block in self.blocks:
            if block.hash.hex() == asked["hash"]:
                return {"block_header": self._header(block.height)}
        return _refusal(-5, "Internal error: can't get block by hash")

    def _get_block_headers_range(self, asked: dict[str, Any]) -> dict[str, Any]:
        first, last = asked["start_height"], asked["end_height"]
        if last >= len(self.blocks) or first > last:
            return _refusal(TOO_BIG_HEIGHT, "Invalid start/end heights.")
        if self.is_restricted and last - first > 1000:
            return _refusal(-19, "Too many block headers requested.")
        return {"headers": [self._header(height) for height in range(first, last + 1)]}

    def _get_block(self, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["height"] >= len(self.blocks):
            return _refusal(TOO_BIG_HEIGHT, "Requested block height: greater than current top")
        block = self.blocks[asked["height"]]
        answer: dict[str, Any] = {"blob": block.blob.hex()}
        if block.txs:
            answer["tx_hashes"] = [tx.txid.hex() for tx in block.txs]
        return {**answer, "block_header": self._header(block.height)}

    def _header(self, height: int) -> dict[str, Any]:
        block = self.blocks[height]
        return {
            "height": height,
            "hash": block.hash.hex(),
            "prev_hash": block.parent.hex(),
            "timestamp": 1_700_000_000 + height,
        }

    # --- JSON ---

    def _json(self, path: str, asked: dict[str, Any]) -> dict[str, Any] | None:
        if path == "/get_transaction_pool_hashes":
            names = [txid.hex() for txid in self.pool]
            return {"status": "OK", **({"tx_hashes": names} if names else {})}
        if path == "/get_transactions":
            return self._transactions(asked)
        return None

    def _transactions(self, asked: dict[str, Any]) -> dict[str, Any]:
        names = asked["txs_hashes"]
        if self.is_restricted and len(names) > RESTRICTED_TRANSACTIONS:
            return {"status": "Too many transactions requested in restricted mode"}
        mined = {tx.txid: tx for block in self.blocks for tx in block.txs}
        entries = []
        for name in names:
            txid = bytes.fromhex(name)
            tx = self.pool.get(txid) or mined.get(txid)
            if tx is None:
                continue
            is_split = asked["prune"] or self.is_pruned
            entry = {
                "tx_hash": name,
                "as_hex": "" if is_split else (tx.pruned + tx.prunable).hex(),
                "pruned_as_hex": tx.pruned.hex() if is_split else "",
                "prunable_hash": tx.prunable_hash.hex(),
                "in_pool": txid in self.pool,
                "double_spend_seen": txid in self.contested,
            }
            if txid in self.pool:
                entry["received_timestamp"] = 0 if self.is_restricted else 1_700_000_000
            entries.append(entry)
        return {"status": "OK", **({"txs": entries} if entries else {})}

    # --- binary ---

    def _binary(self, path: str, asked: dict[str, Any]) -> bytes:
        if path == "/get_blocks_by_height.bin":
            heights = asked["heights"]
            if max(heights) >= len(self.blocks):
                return _pack({"status": b"Error retrieving block at height"})
            found = [self._entry(height, prune=False) for height in heights]
            return _pack({"status": b"OK", "blocks": found})
        first, prune = asked["start_height"], asked["prune"]
        if first >= len(self.blocks) or (self.is_pruned and not prune):
            return _pack({"status": b"Failed"})
        stop = len(self.blocks)
        if self.rpc_version >= (3, 16):
            stop = min(stop, first + asked["max_block_count"])
        found = [self._entry(height, prune=prune) for height in range(first, stop)]
        return _pack({"status": b"OK", "start_height": first, "blocks": found})

    def _entry(self, height: int, *, prune: bool) -> dict[str, Any]:
        block = self.blocks[height]
        if not prune:
            txs: list[Any] = [] if self.is_pruned else [tx.pruned + tx.prunable for tx in block.txs]
            return {"block": block.blob, **({"txs": txs} if txs else {})}
        tells = self.rpc_version >= (3, 18)
        txs = [
            {"blob": tx.pruned, "prunable_hash": tx.prunable_hash if tells else NO_HASH}
            for tx in block.txs
        ]
        return {"pruned": True, "block": block.blob, **({"txs": txs} if txs else {})}


class DigestGate:
    """HTTP Digest as monerod has it: a nonce and a count for each connection.

    After `uses` requests a nonce is over; `says_stale` tells the client that this is why.
    """

    def __init__(
        self,
        user: str,
        password: str,
        *,
        algorithm: str = "MD5",
        uses: int = 10**6,
        says_stale: bool = True,
        opaque: str | None = None,
    ) -> None:
        self._login = (user, password)
        self._algorithm = algorithm
        self._uses = uses
        self._says_stale = says_stale
        self._opaque = opaque
        self._nonces: dict[int, tuple[str, int]] = {}
        self._made = 0
        self.challenges = 0

    async def admits(self, request: Request) -> bool:
        """Whether to answer the request; sends a challenge if not."""
        said = request.headers.get("authorization")
        nonce, count = self._nonces.get(request.connection, ("", 0))
        is_proved = said is not None and self._is_proved(said, request.target)
        if is_proved and said is not None:
            given = _fields(said)
            if given["nonce"] == nonce and int(given["nc"], 16) == count + 1 <= self._uses:
                assert self._opaque is None or given["opaque"] == self._opaque
                self._nonces[request.connection] = nonce, count + 1
                return True
        self._made += 1
        nonce = f"nonce {self._made}=="
        self._nonces[request.connection] = nonce, 0
        self.challenges += 1
        stale = "true" if is_proved and self._says_stale else "false"
        opaque = "" if self._opaque is None else f',opaque="{self._opaque}"'
        challenge = (
            f'Digest qop="auth",algorithm={self._algorithm},realm="monero-rpc",nonce="{nonce}",'
            f"stale={stale}{opaque}"
        )
        await answer_with(request, b"<html>", status=401, headers={"WWW-Authenticate": challenge})
        return False

    def _is_proved(self, said: str, target: str) -> bool:
        given = _fields(said)
        user, password = self._login
        a1 = _md5(user, given["realm"], password)
        if self._algorithm.endswith("-sess"):
            a1 = _md5(a1, given["nonce"], given["cnonce"])
        a2 = _md5("POST", target)
        wanted = _md5(a1, given["nonce"], given["nc"], given["cnonce"], "auth", a2)
        return given["username"] == user and given["response"] == wanted


# --- faults ---


def says(**fields: Any) -> Fault:
    """The honest answer, but for these fields of its result."""

    async def fault(request: Request, body: bytes) -> None:
        answer = json.loads(body)
        answer.get("result", answer).update(fields)
        await request.answer(json.dumps(answer).encode())

    return fault


def replaced(old: bytes, new: bytes) -> Fault:
    """The honest answer with all of these bytes replaced."""

    async def fault(request: Request, body: bytes) -> None:
        assert old in body, "the fault changes something"
        await request.answer(body.replace(old, new))

    return fault


def raw(body: bytes, *, status: int = 200) -> Fault:
    async def fault(request: Request, _: bytes) -> None:
        await request.answer(body, status=status)

    return fault


def status(text: str) -> Fault:
    """HTTP 200, and a status that is not OK."""

    async def fault(request: Request, _: bytes) -> None:
        if request.target.endswith(".bin"):
            await request.answer(_pack({"status": text.encode()}))
            return
        answer: dict[str, Any] = {"status": text}
        if request.target == "/json_rpc":
            answer = {"id": "0", "jsonrpc": "2.0", "result": answer}
        await request.answer(json.dumps(answer).encode())

    return fault


async def cut(request: Request, body: bytes) -> bool:
    """The connection ends in the middle of the body."""
    await request.answer(body[: len(body) // 2], length=len(body))
    return False


def once(fault: Fault) -> Fault:
    """The fault the first time, then an honest node."""
    left = [fault]

    async def first(request: Request, body: bytes) -> object:
        return await (left.pop()(request, body) if left else request.answer(body))

    return first


async def answer_with(
    request: Request, body: bytes, *, status: int, headers: dict[str, str]
) -> None:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"HTTP/1.1 {status} Whatever\r\n{lines}Content-Length: {len(body)}\r\n\r\n"
    await request.stream.send_all(head.encode() + body)


@asynccontextmanager
async def fake_monerod(**fields: Any) -> AsyncIterator[FakeMonerod]:
    """A node with ten blocks, two of them with transactions, on a loopback port until left."""
    node = FakeMonerod(**fields)
    if not node.blocks:
        node.extend(*[()] * 7, (rct_tx("a"), rct_tx("b")), (), (rct_tx("c"),))
    async with http_node(node.behave) as server:
        node.url = server.url
        yield node


def _refusal(code: int, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}


def _hashed(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _fields(header: str) -> dict[str, str]:
    return {name: value.strip('"') for name, value in re.findall(r'(\w+)=("[^"]*"|[^,]+)', header)}


def _md5(*parts: str) -> str:
    return hashlib.md5(":".join(parts).encode()).hexdigest()


def _pack(fields: dict[str, Any]) -> bytes:
    """Portable storage with sections and lists of them, which tests.helpers.epee does not write."""
    return epee.pack({})[:-1] + _section(fields)


def _section(fields: dict[str, Any]) -> bytes:
    entries = [bytes([len(name)]) + name.encode() + _entry(v) for name, v in fields.items()]
    return _size(len(entries)) + b"".join(entries)


def _entry(value: Any) -> bytes:
    if isinstance(value, list):
        kind = _value(value[0])[0] | 0x80
        return bytes([kind]) + _size(len(value)) + b"".join(_value(each)[1] for each in value)
    kind, packed = _value(value)
    return bytes([kind]) + packed


def _value(value: Any) -> tuple[int, bytes]:
    if isinstance(value, bool):
        return 11, bytes([value])
    if isinstance(value, int):
        return 5, struct.pack("<Q", value)
    if isinstance(value, bytes):
        return 10, _size(len(value)) + value
    return 12, _section(value)


def _size(number: int) -> bytes:
    return struct.pack("<I", number << 2 | 2)
