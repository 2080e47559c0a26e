"""What we recorded: facts, frozen and versioned. An invoice's state is their fold, nothing else.

The payment events say what the chain did; the invoice events say what followed from it, under the
terms that the creation event carries, so no later change of policy rewrites history.
`kind` and the field names are the stored and published form: change them only by a new kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID

from actors.core.chain_events import OutPoint, Removal
from actors.core.policy import Applied, Policy


@dataclass(frozen=True, slots=True)
class Terms:
    """What was agreed when the invoice was created; never changes."""

    invoice_id: UUID
    user_id: UUID
    asset: str
    chain: str
    network: str
    """The chain's network as its node calls it: `main`, `regtest`."""
    address: str
    destination: bytes
    """What the chain is searched for: the scriptPubKey or address bytes."""
    account_id: int
    path: tuple[int, int]
    """(major, minor) below the account's key."""
    required_base: int
    """Base units asked for; 0 means any amount."""
    confirmations: int
    """Depth at which a payment counts as final; the tip block is 1, the mempool 0."""
    created_at_ms: int
    expires_at_ms: int
    watch_depth: int
    """Confirmations up to which a payment is still watched for a reversal."""
    finality: str | None = None
    """`safe` or `finalized`: settle when the node calls a payment's block that, instead of counting
    confirmations; None to count them."""
    memo: str | None = None
    """What the payer must say with the payment, where several invoices share an address (TON's
    comment); it is part of `destination`. Not stored when there is none."""
    policy: Policy | None = None
    """What is accepted beyond the plain rules. Not stored when there is none."""
    metadata: tuple[tuple[str, str], ...] = ()
    """What the merchant wants to find again with the invoice, by name. Not stored when empty."""


@dataclass(frozen=True, slots=True)
class InvoiceCreated:
    kind: ClassVar[str] = "invoice.created"
    at_ms: int
    terms: Terms


@dataclass(frozen=True, slots=True)
class PaymentSeen:
    """An output to the invoice's address entered the mempool (or came back to it)."""

    kind: ClassVar[str] = "payment.seen"
    at_ms: int
    outpoint: OutPoint
    amount_base: int
    asset: str
    first_seen_ms: int
    """When the money was first known, itself or as the payment it replaced."""
    late: bool
    """First seen after the deadline, or after the invoice was closed: recorded, and credited only
    if `policies` say so."""
    spends: tuple[bytes, ...] = ()
    """Some of its transaction's conflict keys, so that a replacement is known after a restart."""
    one_time_key: bytes | None = None
    """What two outputs cannot both be spent with (see Output); not stored when there is none."""
    unlock_height: int | None = None
    """The tip at which its lock ends, if it was locked then; not stored otherwise."""
    unlock_ms: int | None = None
    """The instant at which its lock ends, if it was locked then; not stored otherwise."""
    replaceable: bool = False
    """Its transaction says that it may be replaced (BIP 125), and the policy asks; not stored
    otherwise."""
    policies: tuple[Applied, ...] = ()
    """The policy by which late money is credited; not stored when there is none."""


@dataclass(frozen=True, slots=True)
class PaymentIncluded:
    """An output to the invoice's address is in a block of the active chain."""

    kind: ClassVar[str] = "payment.included"
    at_ms: int
    outpoint: OutPoint
    amount_base: int
    asset: str
    first_seen_ms: int
    late: bool
    height: int
    block_hash: bytes
    spends: tuple[bytes, ...] = ()
    one_time_key: bytes | None = None
    unlock_height: int | None = None
    unlock_ms: int | None = None
    replaceable: bool = False
    policies: tuple[Applied, ...] = ()


@dataclass(frozen=True, slots=True)
class PaymentDisconnected:
    """The payment's block left the active chain; the payment waits as if in the mempool."""

    kind: ClassVar[str] = "payment.disconnected"
    at_ms: int
    outpoint: OutPoint
    height: int
    block_hash: bytes


@dataclass(frozen=True, slots=True)
class PaymentDisplaced:
    """The payment is gone: replaced, double-spent, contested, evicted or failed."""

    kind: ClassVar[str] = "payment.displaced"
    at_ms: int
    outpoint: OutPoint
    reason: Removal
    by: bytes | None


@dataclass(frozen=True, slots=True)
class PaymentUnlocked:
    """The payment's lock ended: from now on it counts like any other."""

    kind: ClassVar[str] = "payment.unlocked"
    at_ms: int
    outpoint: OutPoint
    late: bool
    """Its lock ended after the deadline, or after the invoice was closed: it is credited only if
    `policies` say so."""
    policies: tuple[Applied, ...] = ()


@dataclass(frozen=True, slots=True)
class PaymentRefused:
    """ALARM: an output to the invoice's address whose amount nothing proves; it is no payment."""

    kind: ClassVar[str] = "payment.refused"
    at_ms: int
    outpoint: OutPoint
    asset: str
    reason: str
    """Why, for people."""


@dataclass(frozen=True, slots=True)
class InvoiceCovered:
    """Credited payments, confirmed or not, reach the required amount."""

    kind: ClassVar[str] = "invoice.covered"
    at_ms: int
    credited_base: int
    policies: tuple[Applied, ...] = ()
    """Without which it would not be covered; not stored when there are none."""


@dataclass(frozen=True, slots=True)
class InvoiceUncovered:
    """A reorg or replacement took so much away that the payments no longer reach the amount."""

    kind: ClassVar[str] = "invoice.uncovered"
    at_ms: int
    credited_base: int


@dataclass(frozen=True, slots=True)
class InvoiceSettled:
    """Payments at the required depth reach the amount: the goods may go out."""

    kind: ClassVar[str] = "invoice.settled"
    at_ms: int
    credited_base: int
    """The part that had the required depth."""
    tip_height: int | None
    """The tip (or final height) that decided; None when the terms ask for no confirmation."""
    policies: tuple[Applied, ...] = ()
    """Without which it would have settled otherwise, or not; not stored when there are none."""


@dataclass(frozen=True, slots=True)
class DeadlineReached:
    """The deadline passed while the invoice was open. Recorded once; a restart changes nothing."""

    kind: ClassVar[str] = "invoice.deadline_reached"
    at_ms: int


@dataclass(frozen=True, slots=True)
class InvoiceExpired:
    """After the deadline (and the time in which late money is accepted) the credited payments did
    not reach the amount."""

    kind: ClassVar[str] = "invoice.expired"
    at_ms: int
    credited_base: int


@dataclass(frozen=True, slots=True)
class InvoiceCancelled:
    """The merchant withdrew the invoice before anything was paid."""

    kind: ClassVar[str] = "invoice.cancelled"
    at_ms: int


@dataclass(frozen=True, slots=True)
class SettlementReversed:
    """ALARM: money that settled the invoice is gone from mempool and chain."""

    kind: ClassVar[str] = "invoice.reversed"
    at_ms: int
    credited_base: int


@dataclass(frozen=True, slots=True)
class SettlementRestored:
    """After a reversal the payments reach the amount again."""

    kind: ClassVar[str] = "invoice.restored"
    at_ms: int
    credited_base: int
    policies: tuple[Applied, ...] = ()


PaymentEvent = (
    PaymentSeen
    | PaymentIncluded
    | PaymentDisconnected
    | PaymentDisplaced
    | PaymentUnlocked
    | PaymentRefused
)
InvoiceEvent = (
    InvoiceCreated
    | InvoiceCovered
    | InvoiceUncovered
    | InvoiceSettled
    | DeadlineReached
    | InvoiceExpired
    | InvoiceCancelled
    | SettlementReversed
    | SettlementRestored
)
Event = PaymentEvent | InvoiceEvent
