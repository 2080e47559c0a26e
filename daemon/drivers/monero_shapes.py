"""The shapes of monerod's answers: what the node said as bytes and ints, or a distrusted node.

Hashes are 32 bytes in the order that people see, which is monerod's own.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

from actors.core.chain_view import BlockRef
from daemon.drivers.monero_http import Json, MoneroHttp

HASH_BYTES = 32
NO_HASH = bytes(HASH_BYTES)
MOST = 2**53
"""No height, time or count is larger, and all that compute with them can hold it."""
NETWORKS = ("mainnet", "stagenet", "testnet", "fakechain")


@dataclass(frozen=True, slots=True)
class NodeInfo:
    tip_height: int
    tip_hash: bytes
    target_height: int
    """The tip of its peers' chain; `tip_height` when it has caught up."""
    network: str
    """`mainnet`, `stagenet`, `testnet` or `fakechain`."""
    version: str | None
    """None: a restricted node does not tell."""
    restricted: bool
    synchronized: bool
    pool_size: int


class RawTx(NamedTuple):
    """A serialized transaction: whole, or its prunable part replaced with that one's hash."""

    blob: bytes
    prunable_hash: bytes | None


class RawBlock(NamedTuple):
    blob: bytes
    txs: tuple[RawTx, ...]
    """As many as the node sent: the block's own list says which they must be."""


class PoolTx(NamedTuple):
    txid: bytes
    """As the node has it; not computed."""
    blob: bytes
    prunable_hash: bytes | None
    double_spend_seen: bool
    """The node saw another transaction that spends one of the same outputs."""
    received_s: int | None
    """Unix time; None: a restricted node does not tell."""


class Shapes:
    """Reads one node's answers; DistrustError where they have another shape."""

    def __init__(self, node: MoneroHttp) -> None:
        self._node = node

    def info(self, answer: Json) -> NodeInfo:
        height = self.whole(answer, "height")
        if height < 1:
            self.garbage("a chain without blocks", answer)
        tip = height - 1
        network = answer.get("nettype")
        if network not in NETWORKS:
            self.garbage("an unknown nettype", answer)
        return NodeInfo(
            tip_height=tip,
            tip_hash=self.hash(answer, "top_block_hash"),
            target_height=max(self.whole(answer, "target_height") - 1, tip),
            network=network,
            version=self.text(answer, "version") or None,
            restricted=self.flag(answer, "restricted"),
            synchronized=self.flag(answer, "synchronized"),
            pool_size=self.whole(answer, "tx_pool_size"),
        )

    def ref(self, header: Any) -> BlockRef:
        """The block that a `block_header` describes."""
        if not isinstance(header, dict):
            self.garbage("no block header", header)
        return BlockRef(
            height=self.whole(header, "height"),
            hash=self.hash(header, "hash"),
            parent=self.hash(header, "prev_hash"),
            time_s=self.whole(header, "timestamp"),
        )

    def whole(self, answer: Json, name: str) -> int:
        value = answer.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MOST:
            self.garbage(f"no whole number {name}", answer)
        return value

    def flag(self, answer: Json, name: str) -> bool:
        value = answer.get(name)
        if not isinstance(value, bool):
            self.garbage(f"no flag {name}", answer)
        return value

    def text(self, answer: Json, name: str) -> str:
        value = answer.get(name)
        if not isinstance(value, str):
            self.garbage(f"no text {name}", answer)
        return value

    def listed(self, answer: Json, name: str) -> list[Any]:
        """A list; monerod leaves empty ones out."""
        value = answer.get(name, [])
        if not isinstance(value, list):
            self.garbage(f"no list {name}", answer)
        return value

    def hex(self, answer: Json, name: str) -> bytes:
        return self.unhex(answer.get(name), name)

    def hash(self, answer: Json, name: str) -> bytes:
        return self.as_hash(answer.get(name), name)

    def unhex(self, value: Any, name: str) -> bytes:
        if isinstance(value, str):
            with suppress(ValueError):
                return bytes.fromhex(value)
        return self.garbage(f"{name} is no hexadecimal text", value)

    def as_hash(self, value: Any, name: str) -> bytes:
        raw = self.unhex(value, name)
        if len(raw) != HASH_BYTES:
            self.garbage(f"{name} has not {HASH_BYTES} bytes", value)
        return raw

    def garbage(self, what: str, value: object) -> NoReturn:
        self._node.garbage(what, str(value))
