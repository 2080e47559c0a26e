"""What an audit has to say: differences, and what it had to believe."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from uuid import UUID


class Kind(Enum):
    """What differs."""

    UNRECORDED = "unrecorded"
    """The chain has a payment that the log does not have."""
    ABSENT = "absent"
    """The log has a payment that the chain does not have."""
    AMOUNT = "amount"
    ASSET = "asset"
    PLACE = "place"
    """The payment is in another block, or in a block at all, or in none."""
    LATE = "late"
    """The payment came in time and counts as late, or the other way round."""
    STATE = "state"
    """The money there is does not make that state."""
    REVERSED = "reversed"
    """The alarm is raised though the money is there."""
    REFUSED = "refused"
    """An output that proves no amount is not on record as one."""
    ADDRESS = "address"
    """Two invoices have the same address."""


class Trust(Enum):
    """Why something cannot be decided from the chain."""

    FIRST_SEEN = "mined after the deadline; that it was seen before is the log's word"
    LATE_POLICY = "late, and counted by the invoice's policy: when it came is the log's word"
    JUDGED_LATE = "counts as late, though its block bears a time shortly before the deadline"
    GONE = "replaced, evicted or failed: chain and mempool do not have it, as the log says"
    UNCONFIRMED = "in the log as unconfirmed, and this node does not have it, or not yet"
    NOT_READ = "above the last block that the daemon has read, or not told to it yet"
    SET_ASIDE = "the invoice is set aside and will be told again by the daemon"
    LOCKED = "had a lock: whether it ended in time is the log's word"
    OPEN_DEPTH = "the depth that was needed depends on what had been paid then"
    MOVED = "settled, and a later reorg moved the payment to a younger block"
    FINALITY = "what the node called final, and when, is not on the chain"
    CONTRACT = "paid by a contract, and this node does not show that, or in another way"


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference."""

    kind: Kind
    invoice_id: UUID
    coin: str
    address: str
    log: str
    """What is stored, in words."""
    chain: str
    """What the chain says, in words."""
    txid: str | None = None
    unless_moved: int | None = None
    """It is none if a payment had this depth before its block was disconnected."""


@dataclass(slots=True)
class Verdict:
    """What was found of one invoice."""

    findings: list[Finding] = field(default_factory=list)
    trust: Counter[Trust] = field(default_factory=Counter)
    payments: int = 0
    """On the chain, up to the block that was looked at."""


@dataclass(slots=True)
class CoinReport:
    """What was found of one coin."""

    coin: str
    node: str
    """Scheme, host and port."""
    invoices: int = 0
    payments: int = 0
    from_height: int | None = None
    to_height: int | None = None
    """The last block compared: the daemon's cursor."""
    differences: int = 0
    findings: list[Finding] = field(default_factory=list)
    """The differences, the first of them if there are very many."""
    trust: Counter[Trust] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    """What could not be seen, and leaves nothing undecided but what is in `trust`."""
    failure: str | None = None
    """Why it could not be looked at, in words; nothing is said of its invoices then."""
