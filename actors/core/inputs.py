"""What happened, as an invoice is told it. Inputs are never stored; events are (see `events`).

Every input may arrive twice, late or not at all: `decide` compares it with the state and records
only what is new. Times are Unix milliseconds of our own clock unless a name says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

from actors.core.chain_events import Output, RefusedOutput, Removal
from actors.core.chain_view import BlockRef

KEPT_SPENDS = 8
"""Conflict keys recorded with a payment: one shared input is enough to know a replacement, and who
pays with thousands of inputs must not make each of them a fact."""


@dataclass(frozen=True, slots=True)
class TxSeen:
    """A transaction in the mempool pays the invoice."""

    txid: bytes
    outputs: tuple[Output, ...]
    at_ms: int
    replaces: tuple[bytes, ...] = ()
    """Transactions it excludes. Its payments inherit the time at which they were first seen, so a
    fee bump after the deadline does not make a timely payment late."""
    spends: tuple[bytes, ...] = ()
    """Conflict keys (see ChainTx.spends); the first KEPT_SPENDS are recorded with the payment."""
    known_since_ms: int | None = None
    """When the node first had it, if that was before `at_ms` (it came while we were down)."""
    tip_height: int | None = None
    """The tip at which it was seen: a lock that has ended by then is none."""
    replaceable: bool = False
    """Whether it signals that it may be replaced (see ChainTx.replaceable)."""


@dataclass(frozen=True, slots=True)
class TxIncluded:
    """A transaction in the block that is now the tip pays the invoice, or was expected to.

    What the mempool promised and `outputs` does not hold is gone: it failed.
    """

    txid: bytes
    outputs: tuple[Output, ...]
    block: BlockRef
    at_ms: int
    replaces: tuple[bytes, ...] = ()
    spends: tuple[bytes, ...] = ()
    replaceable: bool = False


@dataclass(frozen=True, slots=True)
class OutputsRefused:
    """Outputs to the invoice's address that are no payments, in a block or in the mempool."""

    outputs: tuple[RefusedOutput, ...]
    at_ms: int


@dataclass(frozen=True, slots=True)
class TxRemoved:
    """A transaction is neither in the mempool nor in the active chain any more."""

    txid: bytes
    reason: Removal
    by: bytes | None
    at_ms: int


@dataclass(frozen=True, slots=True)
class ChainShortened:
    """Blocks above `height` left the active chain; their transactions count as unconfirmed."""

    height: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class HeightTaken:
    """The active chain has `block_hash` at `height`: a payment recorded in another block of that
    height was reorganised away while nobody watched (a crash between append and cursor)."""

    height: int
    block_hash: bytes
    at_ms: int


@dataclass(frozen=True, slots=True)
class TipReached:
    """The active chain has grown to `height`."""

    height: int
    at_ms: int
    mined_ms: int | None = None
    """What that block's header says, which decides after downtime; None: `at_ms`."""


@dataclass(frozen=True, slots=True)
class HeightFinal:
    """The node calls the blocks up to `height` final (`safe` or `finalized`, as the terms name)."""

    height: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class TimeReached:
    """The chain has been read up to `at_ms`: deadlines and locks that end by then have ended."""

    at_ms: int


@dataclass(frozen=True, slots=True)
class CancelAsked:
    """The merchant withdraws the invoice; nothing follows once something was paid."""

    at_ms: int


Input = (
    TxSeen
    | TxIncluded
    | OutputsRefused
    | TxRemoved
    | ChainShortened
    | HeightTaken
    | TipReached
    | HeightFinal
    | TimeReached
    | CancelAsked
)
