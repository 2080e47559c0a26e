"""What is asked of a new invoice, and what of it is agreed. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from uuid import UUID

from actors.core.outcomes import MetadataRefused, PolicyRefused
from actors.core.policy import EMPTY, Policy, PolicyError, checked

MAX_METADATA_BYTES = 4096
"""Of the metadata as compact JSON in UTF-8."""


@dataclass(frozen=True, slots=True)
class NewInvoice:
    """What is asked of an invoice."""

    user_id: UUID
    asset: str
    amount_base: int
    """0 asks for any amount."""
    ttl_ms: int
    """Time to pay; raised to 10 s, and cut at the end of the year 9999."""
    confirmations: int | None = None
    """None: the chain's default."""
    expires_at_ms: int | None = None
    """The deadline itself, instead of `ttl_ms`, within the same bounds."""
    policy: Policy | None = None
    """Instead of the user's default for the asset; the empty policy asks for none. A number of
    `confirmations` takes the place of a default's bands, and cannot be given beside bands."""
    metadata: Mapping[str, str] | None = None
    """Kept with the invoice and given back; at most MAX_METADATA_BYTES."""
    account_id: int | None = None
    """Whose addresses it gets: an account of this user and the asset's chain, current or not; None:
    the current one."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """The part of an invoice's terms that follows from the request and the user's default."""

    confirmations: int | None
    """None: the chain's number."""
    counts: bool
    """Confirmations are counted, also where the chain has a word for what is final."""
    policy: Policy | None
    """None for the empty one."""
    metadata: tuple[tuple[str, str], ...]


def agree(
    wanted: NewInvoice, default: Policy | None = None
) -> Agreement | PolicyRefused | MetadataRefused:
    """`default` is the user's policy for the asset, which counts where the request names none."""
    metadata = _metadata(wanted.metadata or {})
    if isinstance(metadata, MetadataRefused):
        return metadata
    policy = _policy(wanted, default)
    if isinstance(policy, PolicyRefused):
        return policy
    confirmations, bands = wanted.confirmations, policy.bands if policy else ()
    band = policy.band(wanted.amount_base) if policy else None
    if band is not None and wanted.amount_base:
        confirmations = band.confirmations
    # The amount that decides about the bands of an open amount is not known yet.
    counts = confirmations is not None or (bool(bands) and not wanted.amount_base)
    return Agreement(confirmations, counts, policy, metadata)


def _policy(wanted: NewInvoice, default: Policy | None) -> Policy | PolicyRefused | None:
    policy = wanted.policy
    if policy is None:
        policy = default or EMPTY
        if wanted.confirmations is not None and policy.bands:
            policy = replace(policy, bands=())
    elif wanted.confirmations is not None and policy.bands:
        return PolicyRefused("confirmations and bands are given together: give one of them")
    try:
        policy = checked(policy)
    except PolicyError as error:
        return PolicyRefused(str(error))
    return None if policy == EMPTY else policy


def _metadata(given: Mapping[str, str]) -> tuple[tuple[str, str], ...] | MetadataRefused:
    """The pairs in the order given, if they are small enough."""
    try:
        size = len(json.dumps(dict(given), ensure_ascii=False, separators=(",", ":")).encode())
    except UnicodeEncodeError:
        return MetadataRefused("it holds what is no Unicode text (half of a surrogate pair)")
    if size > MAX_METADATA_BYTES:
        return MetadataRefused(
            f"it takes {size} bytes as JSON; at most {MAX_METADATA_BYTES} are kept. Keep a key to"
            " your own records in it instead"
        )
    return tuple(given.items())
