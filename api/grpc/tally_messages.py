"""Between the core and tally.v1's messages; what is the same in REST is worked out there."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from actors.chain_supervisor import ChainHealth
from actors.core.assets import Catalogue
from actors.core.invoice import Invoice, State
from actors.core.payment import Payment
from actors.core.policy import Band, Policy
from api.convert import instant
from api.grpc.tally_refusals import Violations
from api.rest.represent import invoice_json
from proto.tally.v1 import Amount, InvoiceStatus, PaymentState, PolicyBand, RefusedOutput
from proto.tally.v1 import Invoice as WireInvoice
from proto.tally.v1 import Payment as WirePayment
from proto.tally.v1 import Policy as WirePolicy

STATUS_OF: Mapping[State, InvoiceStatus] = {
    State.PENDING: InvoiceStatus.PENDING,
    State.SEEN: InvoiceStatus.PENDING_MEMPOOL,
    State.SETTLED: InvoiceStatus.CONFIRMED,
    State.EXPIRED: InvoiceStatus.EXPIRED,
    State.CANCELLED: InvoiceStatus.CANCELLED,
}
STATE_OF: Mapping[InvoiceStatus, State] = {status: state for state, status in STATUS_OF.items()}

Json = dict[str, Any]


def invoice_message(
    invoice: Invoice, catalogue: Catalogue, health: ChainHealth | None
) -> WireInvoice:
    """The invoice as it is now; confirmations are counted from its chain's tip."""
    terms = invoice.terms
    document = invoice_json(invoice, catalogue, health)
    flags = document["flags"]
    settled_at_ms = invoice.settled_at_ms
    return WireInvoice(
        id=document["id"],
        user_id=document["user_id"],
        asset=terms.asset,
        chain=terms.chain,
        network=terms.network,
        address=terms.address,
        memo=terms.memo,
        payment_uri=document["payment_uri"],
        status=STATUS_OF[invoice.state],
        underpaid=flags["underpaid"],
        overpaid=flags["overpaid"],
        late=flags["late"],
        reversed=flags["reversed"],
        amount=_amount(document, "amount"),
        received=_amount(document, "received"),
        credited=_amount(document, "credited"),
        confirmed=_amount(document, "confirmed"),
        due=_amount(document, "due"),
        confirmations_required=document["confirmations_required"],
        txid=document["txid"],
        created_at=instant(terms.created_at_ms),
        expires_at=instant(terms.expires_at_ms),
        confirmed_at=None if settled_at_ms is None else instant(settled_at_ms),
        updated_at=instant(invoice.updated_at_ms),
        version=invoice.version,
        payments=[
            _payment(payment, said)
            for payment, said in zip(invoice.payments, document["payments"], strict=True)
        ],
        refused=[
            RefusedOutput(
                txid=one["txid"], index=one["index"], asset=one["asset"], reason=one["reason"]
            )
            for one in document["refused"]
        ],
        policy=None if terms.policy is None else _policy_message(terms.policy),
        metadata=dict(terms.metadata),
    )


def policy_of(message: WirePolicy, wrong: Violations) -> Policy:
    """The policy of a request; what cannot be read is added to `wrong`."""
    bands = []
    for number, band in enumerate(message.bands):
        from_base = wrong.base_units(f"policy.bands[{number}].from_base", band.from_base)
        bands.append(Band(from_base, band.confirmations))
    tolerance_base = 0
    if message.tolerance_base:
        tolerance_base = wrong.base_units("policy.tolerance_base", message.tolerance_base)
    late = message.accept_late or timedelta()
    if late % timedelta(seconds=1):
        wrong.add("policy.accept_late", "must be whole seconds")
    return Policy(
        bands=tuple(bands),
        rbf_confirmations=message.rbf_confirmations,
        tolerance_base=tolerance_base,
        tolerance_bps=message.tolerance_bps,
        accept_late_s=late // timedelta(seconds=1),
    )


def _policy_message(policy: Policy) -> WirePolicy:
    return WirePolicy(
        bands=[
            PolicyBand(from_base=str(band.from_base), confirmations=band.confirmations)
            for band in policy.bands
        ],
        rbf_confirmations=policy.rbf_confirmations,
        tolerance_base=str(policy.tolerance_base) if policy.tolerance_base else "",
        tolerance_bps=policy.tolerance_bps,
        accept_late=timedelta(seconds=policy.accept_late_s) if policy.accept_late_s else None,
    )


def _payment(payment: Payment, said: Json) -> WirePayment:
    if payment.gone is not None:
        state = PaymentState.GONE
    else:
        state = PaymentState.MEMPOOL if payment.unconfirmed else PaymentState.INCLUDED
    unlock_ms = payment.unlock_ms
    return WirePayment(
        txid=said["txid"],
        index=said["index"],
        asset=payment.asset,
        amount=_amount(said, "amount"),
        state=state,
        gone="" if payment.gone is None else payment.gone.value,
        late=payment.late,
        first_seen_at=instant(payment.first_seen_ms),
        height=payment.height,
        block_hash=said["block_hash"],
        confirmations=said["confirmations"],
        replaced_by=said["replaced_by"],
        unlock_height=payment.unlock_height,
        unlock_at=None if unlock_ms is None else instant(unlock_ms),
        duplicate=said["duplicate"],
        spendable_at_height=said["spendable_at_height"],
    )


def _amount(document: Json, name: str) -> Amount:
    return Amount(decimal=document[name] or "", base=document[f"{name}_base"])
