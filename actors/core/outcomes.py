"""Expected refusals: returned, matched exhaustively at the edge, never raised.

Each carries what a person needs to act; `api.errors` gives it its gRPC and HTTP form.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class UserExists:
    user_id: UUID


@dataclass(frozen=True, slots=True)
class NoSuchUser:
    user_id: UUID


@dataclass(frozen=True, slots=True)
class NoSuchInvoice:
    invoice_id: UUID


@dataclass(frozen=True, slots=True)
class KeyRefused:
    """The text given as a chain's public key cannot be used."""

    chain: str
    field: str
    """Which part of the key: `masterPubKey`, `privViewKey`, `pubSpendKey`."""
    reason: str


@dataclass(frozen=True, slots=True)
class KeyInUse:
    """The key belongs to another user: the two would be given the same addresses."""

    chain: str


@dataclass(frozen=True, slots=True)
class NoKey:
    """The user has given no key for the asset's chain."""

    user_id: UUID
    chain: str


@dataclass(frozen=True, slots=True)
class UnknownAsset:
    asset: str


@dataclass(frozen=True, slots=True)
class AssetDisabled:
    """The asset is known, but its chain is not configured or not usable now."""

    asset: str
    reason: str


@dataclass(frozen=True, slots=True)
class AmountRefused:
    reason: str


@dataclass(frozen=True, slots=True)
class PolicyRefused:
    """The policy of a request, or a default to be stored, contradicts itself or the request."""

    reason: str


@dataclass(frozen=True, slots=True)
class MetadataRefused:
    reason: str


@dataclass(frozen=True, slots=True)
class NotCancellable:
    """Only an invoice that waits and has received nothing can be cancelled."""

    invoice_id: UUID
    state: str
    """Value of actors.core.invoice.State."""


UserRefusal = UserExists
KeysRefusal = NoSuchUser | KeyRefused | KeyInUse
InvoiceRefusal = (
    NoSuchUser
    | NoKey
    | UnknownAsset
    | AssetDisabled
    | AmountRefused
    | PolicyRefused
    | MetadataRefused
)
CancelRefusal = NoSuchInvoice | NotCancellable | AssetDisabled
PolicyRefusal = NoSuchUser | UnknownAsset | PolicyRefused
Refusal = UserExists | KeysRefusal | InvoiceRefusal | CancelRefusal | PolicyRefusal
