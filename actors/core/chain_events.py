"""What a chain says, in three verbs: block connected, blocks disconnected, mempool changed.

Order contract of a watcher: blocks connect one by one, each the child of the last; a reorg is one
`BlocksDisconnected` to the fork point, before the first block of the new branch; `MempoolChanged`
follows the block or the reorg that caused it. Anything may be repeated after a restart.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from actors.core.chain_view import BlockRef


@dataclass(frozen=True, slots=True, order=True)
class OutPoint:
    """One payment's place: transaction and output index (UTXO), or log index (EVM)."""

    txid: bytes
    index: int

    def __str__(self) -> str:
        return f"{self.txid.hex()}:{self.index}"


@dataclass(frozen=True, slots=True)
class Output:
    """Money sent to a watched destination by one output, log or internal transfer."""

    outpoint: OutPoint
    destination: bytes
    amount_base: int
    asset: str
    one_time_key: bytes | None = None
    """Two outputs with the same one can be spent only once (Monero's burning bug); None where a
    chain has no such thing."""
    unlock_height: int | None = None
    """The lowest tip at which the chain lets the payee move it; None: no such lock."""
    unlock_ms: int | None = None
    """The Unix millisecond from which the chain lets the payee move it; None: no such lock. At most
    one of the two locks is set."""


@dataclass(frozen=True, slots=True)
class RefusedOutput:
    """An output to a watched destination whose amount is not proved: an alarm, never money."""

    outpoint: OutPoint
    destination: bytes
    asset: str
    reason: str
    """Why, for people: `its commitment does not match the amount it claims`."""


@dataclass(frozen=True, slots=True)
class ChainTx:
    """One that concerns us: it pays a watched destination, or conflicts with one that does."""

    txid: bytes
    outputs: tuple[Output, ...]
    """Only the outputs to watched destinations; empty for a mere conflict."""
    spends: tuple[bytes, ...]
    """Conflict keys: two transactions that share one exclude each other (outpoints spent, sender
    and nonce, key images). May be empty where a chain has none."""
    first_seen_s: int | None = None
    """Unix time at which the node took it into its mempool, where the node says so: after our own
    downtime it tells a timely payment from a late one."""
    refused: tuple[RefusedOutput, ...] = ()
    """Outputs to watched destinations that are no payments, and somebody has to know."""
    replaceable: bool | None = None
    """Whether its own inputs signal that it may be replaced (BIP 125); a signal that it inherits
    from an unconfirmed ancestor is not looked for. None where a chain or driver does not say."""


class Removal(Enum):
    """Why a transaction is no longer in the mempool nor in the active chain."""

    REPLACED = "replaced"
    """A transaction in the mempool spends one of its inputs."""
    DOUBLE_SPENT = "double_spent"
    """A transaction in a block spends one of its inputs."""
    EVICTED = "evicted"
    """The node dropped it: too old, too cheap, or its parent went away."""
    FAILED = "failed"
    """It is in a block, but what it was expected to pay did not come: it was reverted, or the token
    moved another amount by another log."""
    CONTESTED = "contested"
    """It is in the mempool, but the node saw another transaction that spends one of its inputs:
    which of them a block will have, nobody knows."""


@dataclass(frozen=True, slots=True)
class RemovedTx:
    txid: bytes
    reason: Removal
    by: bytes | None = None
    """The transaction that took its place, where known."""


@dataclass(frozen=True, slots=True)
class BlockConnected:
    block: BlockRef
    txs: tuple[ChainTx, ...]
    """In block order."""
    at_ms: int


@dataclass(frozen=True, slots=True)
class BlocksDisconnected:
    fork_point: BlockRef
    """The newest block that stays; everything above it left the active chain."""
    depth: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class MempoolChanged:
    added: tuple[ChainTx, ...]
    removed: tuple[RemovedTx, ...]
    at_ms: int


ChainEvent = BlockConnected | BlocksDisconnected | MempoolChanged
