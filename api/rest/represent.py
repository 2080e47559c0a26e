"""Invoices, their facts, assets and chains as JSON: money twice, exact text and base units."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import orjson

from actors.chain_supervisor import ChainHealth
from actors.core.assets import Asset, Catalogue
from actors.core.chain_events import Removal
from actors.core.codec import event_to_json
from actors.core.invoice import Invoice, State
from actors.core.money import format_decimal
from actors.core.payment import Payment, Refusal
from actors.core.policy_json import policy_to_json
from actors.invoicing import LAST_INSTANT_MS
from actors.ports import LogEntry
from api.convert import STATUS_WORD, format_instant
from api.payment_link import payment_link

Json = dict[str, Any]

PAYMENT_STATES = ("mempool", "included", *(removal.value for removal in Removal))


def invoice_json(invoice: Invoice, catalogue: Catalogue, health: ChainHealth | None) -> Json:
    """The representation of an invoice; confirmations are counted from its chain's tip."""
    terms = invoice.terms
    tip = _tip(invoice, health)
    to_pay = invoice.open and not invoice.covered
    due_base = max(0, terms.required_base - invoice.credited_base) if to_pay else 0
    asset = catalogue.assets.get(terms.asset)
    chain = catalogue.chains.get(terms.chain)
    unlock_blocks = chain.unlock_blocks if chain else 0
    duplicates = invoice.duplicates()
    return {
        "id": str(terms.invoice_id),
        "user_id": str(terms.user_id),
        "asset": terms.asset,
        "chain": terms.chain,
        "network": terms.network,
        "address": terms.address,
        "memo": terms.memo,
        "payment_uri": payment_link(invoice, catalogue),
        "status": STATUS_WORD[invoice.state],
        "flags": {
            "underpaid": invoice.underpaid,
            "overpaid": invoice.overpaid,
            "late": invoice.late,
            "reversed": invoice.reversed,
            "refused": bool(invoice.refused),
        },
        **_money("amount", terms.required_base, asset),
        **_money("received", invoice.received_base, asset),
        **_money("credited", invoice.credited_base, asset),
        **_money("confirmed", invoice.confirmed_base(tip), asset),
        **_money("due", due_base, asset),
        "confirmations_required": invoice.confirmations,
        "txid": catalogue.hash_text(terms.chain, invoice.txid) if invoice.txid else None,
        "created_at": format_instant(terms.created_at_ms),
        "expires_at": format_instant(terms.expires_at_ms),
        "confirmed_at": _instant_or_none(invoice.settled_at_ms),
        "updated_at": format_instant(invoice.updated_at_ms),
        "version": invoice.version,
        "payments": [
            {
                **_payment_json(one, terms.chain, catalogue, tip),
                "duplicate": one.outpoint in duplicates,
                "spendable_at_height": one.spendable_height(unlock_blocks),
            }
            for one in invoice.payments
        ],
        "refused": [_refused_json(one, terms.chain, catalogue) for one in invoice.refused],
        "policy": None if terms.policy is None else policy_to_json(terms.policy),
        "accepted_until": format_instant(min(invoice.closes_at_ms, LAST_INSTANT_MS)),
        "metadata": dict(terms.metadata),
    }


def encode(document: Json) -> tuple[bytes, str]:
    """The bytes of a representation and its strong ETag: equal bytes, equal tag, nothing else.

    A version number would not do: confirmations grow with the chain, without a fact of the invoice.
    """
    content = orjson.dumps(document)
    return content, f'"{blake2b(content, digest_size=16).hexdigest()}"'


def entry_json(entry: LogEntry) -> Json:
    """One recorded fact, in the form in which it is stored."""
    data = event_to_json(entry.event)
    at_ms = data.pop("at_ms")
    return {
        "seq": entry.seq,
        "version": entry.version,
        "type": entry.event.kind,
        "at": format_instant(at_ms),
        "data": data,
    }


def asset_json(asset: Asset, catalogue: Catalogue, why_disabled: str | None) -> Json:
    chain = catalogue.chain_of(asset)
    return {
        "id": asset.id,
        "chain": asset.chain,
        "symbol": asset.symbol,
        "name": asset.name,
        "exponent": asset.exponent,
        "contract": None if asset.contract is None else chain.contract_text(asset.contract),
        "enabled": why_disabled is None,
        "reason": why_disabled,
    }


def health_json(health: ChainHealth, catalogue: Catalogue) -> Json:
    tip = health.tip
    return {
        "chain": health.chain,
        "state": health.state.value,
        "reason": health.reason,
        "network": health.network,
        "height": tip.height if tip else None,
        "block_hash": catalogue.hash_text(health.chain, tip.hash) if tip else None,
        "node_height": health.node_height,
        "as_of": _instant_or_none(health.as_of_ms),
        "software": health.software,
        "push": health.push,
        "pruned_below": health.pruned_below,
    }


def _payment_json(
    payment: Payment, chain_id: str, catalogue: Catalogue, tip_height: int | None
) -> Json:
    def text(value: bytes | None) -> str | None:
        return None if value is None else catalogue.hash_text(chain_id, value)

    if payment.gone is not None:
        state = payment.gone.value
    else:
        state = "mempool" if payment.unconfirmed else "included"
    return {
        "outpoint": f"{text(payment.outpoint.txid)}:{payment.outpoint.index}",
        "txid": text(payment.outpoint.txid),
        "index": payment.outpoint.index,
        "asset": payment.asset,
        **_money("amount", payment.amount_base, catalogue.assets.get(payment.asset)),
        "state": state,
        "late": payment.late,
        "accepted": payment.accepted,
        "replaceable": payment.replaceable,
        "first_seen_at": format_instant(payment.first_seen_ms),
        "height": payment.height,
        "block_hash": text(payment.block_hash),
        "confirmations": 0 if tip_height is None else payment.confirmations(tip_height),
        "replaced_by": text(payment.gone_by),
        "unlock_height": payment.unlock_height,
        "unlock_at": _instant_or_none(payment.unlock_ms),
    }


def _refused_json(refused: Refusal, chain_id: str, catalogue: Catalogue) -> Json:
    txid = catalogue.hash_text(chain_id, refused.outpoint.txid)
    return {
        "outpoint": f"{txid}:{refused.outpoint.index}",
        "txid": txid,
        "index": refused.outpoint.index,
        "asset": refused.asset,
        "reason": refused.reason,
    }


def _money(name: str, amount_base: int, asset: Asset | None) -> Json:
    """Both forms; the decimal one is null for an asset that is no longer in the catalogue."""
    decimal = None if asset is None else format_decimal(amount_base, asset.exponent)
    return {name: decimal, f"{name}_base": str(amount_base)}


def _tip(invoice: Invoice, health: ChainHealth | None) -> int | None:
    """The height to count from: the chain's tip, or the block that is being told just now.

    An invoice is told of a block before its chain counts the block as read, and a reader who was
    woken by that must not be shown a confirmed invoice that still lacks a confirmation. The block
    being told is always the one after the tip; a payment in it, or a settlement by it, proves it.
    """
    tip = health.tip.height if health and health.tip else None
    known = [height for one in invoice.payments if (height := one.height) is not None]
    highest = max([*known, *([] if tip is None else [tip])], default=None)
    if highest is None or health is None or highest >= (health.node_height or 0):
        return highest
    settled = invoice.state is State.SETTLED and not invoice.reversed
    if invoice.terms.required_base == 0 and invoice.band() is not None:
        # What came since may have moved it to another band: that proves nothing of a block.
        return highest
    lacking = settled and invoice.confirmed_base(highest) < invoice.needed_base
    return highest + 1 if lacking else highest


def _instant_or_none(at_ms: int | None) -> str | None:
    return None if at_ms is None else format_instant(at_ms)
