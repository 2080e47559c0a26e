"""Why an invoice is not paid (or is), in words for a merchant's support person and stable codes.

The first reason is the most important one. Texts may change with any release; codes may not:

nothing_received, underpaid, overpaid        what came, against what was asked for
waiting_confirmations, waiting_finality,
unconfirmed                                  money on its way
disconnected, replaced, double_spent,
evicted, failed, contested                   money that went away, and how
late_payment, wrong_asset, locked,
duplicate_output                             money that is recorded, not credited
refused_output                               ALARM: what claims to be money and is none
not_spendable                                settled or not: when the money can be moved
deadline_protected, deadline_held,
late_window, expired                         what the deadline did
settled, reversed, cancelled                 the end, and the alarm after it
tolerated, late_accepted                     what a policy made of the money that came
chain_starting, chain_behind, chain_unreachable, chain_refused, chain_crashed, chain_disabled
                                             why we may not know what the chain knows
more_payments                                there are more payments than were explained
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from actors.core.assets import Catalogue
from actors.core.chain_events import OutPoint, Removal
from actors.core.events import (
    Event,
    PaymentDisconnected,
    PaymentIncluded,
    PaymentSeen,
    PaymentUnlocked,
    Terms,
)
from actors.core.invoice import Invoice, State
from actors.core.money import format_decimal
from actors.core.payment import Payment
from actors.core.words import count, duration, utc

PAYMENTS_EXPLAINED = 10
"""The newest payments are explained one by one; a stranger can make any number of them."""


@dataclass(frozen=True, slots=True)
class Reason:
    code: str
    text: str


@dataclass(frozen=True, slots=True)
class ChainSituation:
    """How well the invoice's chain is known at the moment."""

    state: str
    """`current`, `catching_up`, `starting`, `unreachable`, `refused`, `crashed`, `disabled`."""
    reason: str | None
    """Why it is not current, for people."""
    tip_height: int | None
    """The newest block that every invoice has been told of."""
    as_of_ms: int | None
    """Everything the node knew by this instant has been told."""


def explain(
    invoice: Invoice,
    *,
    now_ms: int,
    catalogue: Catalogue,
    situation: ChainSituation,
    history: Sequence[Event] = (),
) -> tuple[Reason, ...]:
    """The reasons for the invoice's state, most important first; never empty.

    With the invoice's `history` a payment that a reorg took out of its block is told from one that
    was never in any, and one that was unlocked too late from one that came back too late.
    """
    taken_out = _disconnected(history)
    unlocked = {event.outpoint: event for event in history if isinstance(event, PaymentUnlocked)}
    said = _Explanation(
        invoice, now_ms, catalogue, situation, taken_out, unlocked, invoice.duplicates()
    )
    return tuple(said.reasons())


@dataclass(frozen=True, slots=True)
class _Explanation:
    invoice: Invoice
    now_ms: int
    catalogue: Catalogue
    situation: ChainSituation
    disconnected: Mapping[OutPoint, PaymentDisconnected]
    unlocked: Mapping[OutPoint, PaymentUnlocked]
    duplicates: frozenset[OutPoint]

    @property
    def terms(self) -> Terms:
        return self.invoice.terms

    def reasons(self) -> Iterator[Reason]:
        invoice = self.invoice
        if invoice.open or invoice.reversed:
            yield from self._chain()
        if invoice.state is State.SETTLED:
            yield from self._settled()
        elif invoice.state is State.EXPIRED:
            yield self._expired()
        elif invoice.state is State.CANCELLED:
            yield self._cancelled()
        elif invoice.state is State.PENDING:
            yield self._pending()
        else:
            yield from self._seen()
        if invoice.open:
            yield from self._deadline()
        if invoice.overpaid:
            yield self._overpaid()
        yield from self._tolerated()
        yield from self._refused()
        yield from self._payments()
        yield from self._not_spendable()

    # --- the chain --------------------------------------------------------------------------------

    def _chain(self) -> Iterator[Reason]:
        if self.situation.state == "current":
            return
        name = self._chain_name
        code, what = {
            "starting": ("chain_starting", f"The {name} node has not been read yet"),
            "catching_up": ("chain_behind", f"{name} is not read up to its tip yet"),
            "unreachable": ("chain_unreachable", f"The {name} node cannot be reached"),
            "refused": ("chain_refused", f"{name} is not followed until a person mends its node"),
            "crashed": ("chain_crashed", f"Following {name} failed by a fault of this program"),
            "disabled": ("chain_disabled", f"{name} is not switched on in the configuration"),
        }[self.situation.state]
        why = f": {self.situation.reason}" if self.situation.reason else ""
        as_of_ms = self.situation.as_of_ms
        known = (
            "nothing is known" if as_of_ms is None else f"payments are known up to {utc(as_of_ms)}"
        )
        yield Reason(code, f"{what}{why}. Until then {known}.")

    @property
    def _chain_name(self) -> str:
        chain = self.catalogue.chains.get(self.terms.chain)
        return chain.name if chain else self.terms.chain

    # --- the state --------------------------------------------------------------------------------

    def _settled(self) -> Iterator[Reason]:
        invoice = self.invoice
        if invoice.reversed:
            yield Reason(
                "reversed",
                "ALARM: money that had settled this invoice is neither on the chain nor in the"
                f" mempool any more; {self._of_required(invoice.credited_base)} is left. Do not"
                " deliver; if it was delivered, ask the payer to pay again.",
            )
        at = utc(invoice.settled_at_ms or 0)
        depth = self._deepest
        how = f"with {self._needed(depth)}" if depth else "without waiting for a block"
        yield Reason("settled", f"Paid: settled at {at} {how}.")

    def _expired(self) -> Reason:
        came = self.invoice.credited_base
        what = f"only {self._of_required(came)} had come" if came else "no money had come"
        closes_ms = self.invoice.closes_at_ms
        late = closes_ms > self.terms.expires_at_ms
        then = f", or late by what the policy allows (until {utc(closes_ms)})" if late else ""
        return Reason(
            "expired",
            f"Expired: at the deadline, {utc(self.terms.expires_at_ms)}, {what} in time{then}. The"
            " address stays watched, but money that comes now is recorded, not credited.",
        )

    def _cancelled(self) -> Reason:
        return Reason(
            "cancelled",
            "Cancelled before anything was paid. The address stays watched, but money that comes"
            " all the same is recorded, not credited.",
        )

    def _tolerated(self) -> Iterator[Reason]:
        """A policy lets less than the amount be enough."""
        invoice = self.invoice
        missing_base = self.terms.required_base - invoice.credited_base
        if missing_base > 0 and invoice.covered and not invoice.unpaid:
            policy = self.terms.policy
            allowed_base = 0 if policy is None else policy.tolerance(self.terms.required_base)
            yield Reason(
                "tolerated",
                f"{self._of_required(invoice.credited_base)} came; the {self._amount(missing_base)}"
                f" that are missing are within the {self._amount(allowed_base)} that the policy"
                " tolerates.",
            )

    def _pending(self) -> Reason:
        invoice = self.invoice
        if invoice.received_base == 0:
            since = utc(self.terms.created_at_ms)
            lost = any(p.gone is not None for p in invoice.payments)
            what = "is there any more" if lost else f"has been seen since {since}"
            memo = self.terms.memo
            said = "" if memo is None else f" with the comment {memo}"
            return Reason(
                "nothing_received",
                f"No payment to {self.terms.address}{said} {what}; {self._remaining()}.",
            )
        missing = self._amount(invoice.needed_base - invoice.credited_base)
        return Reason(
            "underpaid",
            f"{self._of_required(invoice.credited_base)} received in time, {missing} to go;"
            f" {self._remaining()}.",
        )

    def _seen(self) -> Iterator[Reason]:
        wake, depth, tip = self.invoice.wake_height(), self._deepest, self._tip
        if wake is None:
            return
        if self.terms.finality is not None:
            yield Reason(
                "waiting_finality",
                f"The money is in a block: the invoice settles when the node calls block {wake}"
                f" {self.terms.finality}.",
            )
            return
        left = None if tip is None else max(0, wake - tip)
        have = "" if left is None else f"{max(0, depth - left)} of {depth} confirmations; "
        yield Reason(
            "waiting_confirmations",
            f"The money is in a block: {have}the invoice settles at block"
            f" {wake}{self._from_now(wake)}.",
        )

    def _from_now(self, height: int) -> str:
        """How far away that height is; empty when that is not known, or it is reached."""
        chain, tip = self.catalogue.chains.get(self.terms.chain), self._tip
        if chain is None or tip is None or height <= tip:
            return ""
        time = duration(round((height - tip) * chain.block_time_s * 1000))
        return f", {count(height - tip, 'block')} from now, about {time}"

    @property
    def _deepest(self) -> int:
        """The depth that the money needs which counts; the one agreed while none does."""
        depths = [self.invoice.depth_of(payment) for payment in self.invoice.credited()]
        return max(depths, default=self.invoice.required_depth)

    def _needed(self, depth: int) -> str:
        if self.terms.finality is not None:
            return f"a {self.terms.finality} block"
        return count(depth, "confirmation")

    def _overpaid(self) -> Reason:
        invoice = self.invoice
        extra = self._amount(invoice.received_base - self.terms.required_base)
        return Reason(
            "overpaid",
            f"{self._of_required(invoice.received_base)} received, {extra} too much. Nothing is"
            " sent back by itself.",
        )

    # --- the deadline -----------------------------------------------------------------------------

    def _remaining(self) -> str:
        expires_ms = self.terms.expires_at_ms
        if self.now_ms < expires_ms:
            return f"expires in {duration(expires_ms - self.now_ms)}, at {utc(expires_ms)}"
        closes_ms = self.invoice.closes_at_ms
        if self.now_ms < closes_ms:
            return (
                f"the deadline was {utc(expires_ms)}, and late money is accepted until"
                f" {utc(closes_ms)}"
            )
        return f"the deadline was {utc(expires_ms)}"

    def _deadline(self) -> Iterator[Reason]:
        expires_ms, as_of_ms = self.terms.expires_at_ms, self.situation.as_of_ms
        if self.now_ms <= expires_ms:
            return
        if self.invoice.state is State.SEEN:
            yield Reason(
                "deadline_protected",
                f"The deadline passed at {utc(expires_ms)}; the money came in time, so the invoice"
                " does not expire while that money waits for its confirmations.",
            )
        elif self.invoice.deadline_reached:
            yield Reason(
                "late_window",
                f"The deadline passed at {utc(expires_ms)}; by the policy money that comes until"
                f" {utc(self.invoice.closes_at_ms)} still counts, as late.",
            )
        elif as_of_ms is None or as_of_ms < expires_ms:
            read = "not at all yet" if as_of_ms is None else f"only up to {utc(as_of_ms)}"
            yield Reason(
                "deadline_held",
                f"The deadline passed at {utc(expires_ms)}, but the node has been read {read}:"
                " money may have come in time, so the expiry is not recorded before that is known.",
            )

    # --- the payments -----------------------------------------------------------------------------

    def _payments(self) -> Iterator[Reason]:
        told = [reason for p in self.invoice.payments if (reason := self._payment(p)) is not None]
        yield from told[-PAYMENTS_EXPLAINED:]
        more = len(told) - PAYMENTS_EXPLAINED
        if more > 0:
            yield Reason("more_payments", f"{count(more, 'older payment')} not explained here.")

    def _refused(self) -> Iterator[Reason]:
        for refused in self.invoice.refused[:1]:
            more = len(self.invoice.refused) - 1
            others = f" (and {count(more, 'more such output')})" if more else ""
            yield Reason(
                "refused_output",
                f"ALARM: output {refused.outpoint.index} of transaction"
                f" {self._hash(refused.outpoint.txid)}{others} is no payment: {refused.reason}."
                " It counts for nothing; do not deliver for it, and tell the payer.",
            )

    def _not_spendable(self) -> Iterator[Reason]:
        """When confirmed money can be moved, where the chain makes the payee wait longer."""
        chain, tip = self.catalogue.chains.get(self.terms.chain), self._tip
        if chain is None or not chain.unlock_blocks or tip is None:
            return
        waits = [
            (height, payment.amount_base)
            for payment in self.invoice.payments
            if payment.outpoint not in self.duplicates
            and payment.asset == self.terms.asset
            and not payment.locked
            and payment.confirmations(tip) >= max(1, self.invoice.depth_of(payment))
            and (height := payment.spendable_height(chain.unlock_blocks)) is not None
            and height > tip
        ]
        if waits:
            highest = max(height for height, _ in waits)
            amount = self._amount(sum(amount_base for _, amount_base in waits))
            yield Reason(
                "not_spendable",
                f"{amount} is confirmed, but {chain.name} lets nobody spend what is not"
                f" {count(chain.unlock_blocks, 'block')} deep: it can be moved when the chain is"
                f" at block {highest}{self._from_now(highest)}. The invoice does not wait for it.",
            )

    def _payment(self, payment: Payment) -> Reason | None:
        """What is remarkable about one payment; None for a plain one."""
        what = f"{self._amount(payment.amount_base, payment.asset)} in transaction"
        what = f"{what} {self._hash(payment.outpoint.txid)}"
        if payment.gone is not None:
            return self._gone(payment, payment.gone, what)
        if payment.asset != self.terms.asset:
            return Reason(
                "wrong_asset",
                f"{what}: the invoice asks for {self._symbol(self.terms.asset)}; recorded, not"
                " credited. Settle it with the payer by hand.",
            )
        if payment.outpoint in self.duplicates:
            return Reason(
                "duplicate_output",
                f"{what} has the same one-time key as another payment to this invoice: only one of"
                " the two can ever be spent, so only the one that came first counts.",
            )
        if payment.locked:
            return self._locked(payment, what)
        if payment.late:
            after_ms = payment.first_seen_ms - self.terms.expires_at_ms
            when = (
                f"arrived {duration(after_ms)} after the deadline"
                if after_ms > 0
                else f"came {self._ended}"
            )
            late_by_lock = self.unlocked.get(payment.outpoint)
            if after_ms <= 0 and late_by_lock is not None and late_by_lock.late:
                when = "was locked by its sender until after the deadline"
            if payment.accepted:
                return Reason("late_accepted", f"{what} {when}: credited, as the policy has it.")
            return Reason("late_payment", f"{what} {when}: recorded, not credited.")
        if payment.unconfirmed and self.invoice.depth_of(payment):
            return self._unconfirmed(payment, what)
        return None

    def _locked(self, payment: Payment, what: str) -> Reason:
        in_time = self.invoice.open and not payment.late
        if payment.unlock_ms is not None:
            until = utc(payment.unlock_ms)
            in_time = in_time and payment.unlock_ms <= self.terms.expires_at_ms
        else:
            height = payment.unlock_height or 0
            until = f"the chain is at block {height}{self._from_now(height)}"
        then = (
            "it counts from then on, if that is not after the deadline"
            if in_time
            else "it is recorded, not credited"
        )
        return Reason(
            "locked", f"{what} is locked by its sender and cannot be moved until {until}; {then}."
        )

    def _unconfirmed(self, payment: Payment, what: str) -> Reason:
        needs = f"it needs {self._needed(self.invoice.depth_of(payment))}"
        if payment.replaceable:
            needs = f"its sender may replace it, so {needs}"
        stale = self.disconnected.get(payment.outpoint)
        if stale is not None:
            return Reason(
                "disconnected",
                f"{what} was in block {stale.height} ({self._hash(stale.block_hash)}), which is no"
                f" longer part of the chain; it waits for another block, then {needs}.",
            )
        return Reason(
            "unconfirmed",
            f"{what} is in the mempool since {utc(payment.first_seen_ms)}, not in a block yet;"
            f" {needs}.",
        )

    def _hash(self, value: bytes) -> str:
        return self.catalogue.hash_text(self.terms.chain, value)

    def _gone(self, payment: Payment, gone: Removal, what: str) -> Reason:
        by = f" {self._hash(payment.gone_by)}" if payment.gone_by else ""
        how = {
            Removal.REPLACED: f"was replaced by another transaction{by} that spends the same coins",
            Removal.DOUBLE_SPENT: f"is void: its coins were spent in a block by another{by}",
            Removal.EVICTED: (
                "was dropped by the node's mempool (fee too low, or too old); it may come back"
            ),
            Removal.CONTESTED: (
                "is disputed: the node saw another transaction that spends the same coins. It"
                " counts again once it is in a block"
            ),
            Removal.FAILED: "failed: its transaction is in a block, but did not move this money",
        }[gone]
        return Reason(gone.value, f"{what} {how}.")

    # --- words ------------------------------------------------------------------------------------

    @property
    def _ended(self) -> str:
        if self.invoice.state is State.CANCELLED:
            return "after the invoice had been cancelled"
        return "back after the invoice had expired"

    @property
    def _tip(self) -> int | None:
        return self.situation.tip_height

    def _symbol(self, asset_id: str) -> str:
        asset = self.catalogue.assets.get(asset_id)
        return asset.symbol if asset else asset_id

    def _amount(self, amount_base: int, asset_id: str | None = None) -> str:
        asset_id = asset_id or self.terms.asset
        asset = self.catalogue.assets.get(asset_id)
        if asset is None:
            return f"{amount_base} base units of {asset_id}"
        return f"{format_decimal(amount_base, asset.exponent)} {asset.symbol}"

    def _of_required(self, amount_base: int) -> str:
        """`0.3 of 0.5 BTC`; for an open amount only what there is."""
        asset = self.catalogue.assets.get(self.terms.asset)
        if self.terms.required_base == 0:
            return self._amount(amount_base)
        part = format_decimal(amount_base, asset.exponent) if asset else str(amount_base)
        return f"{part} of {self._amount(self.terms.required_base)}"


def _disconnected(history: Iterable[Event]) -> dict[OutPoint, PaymentDisconnected]:
    """Payments whose last news was that their block left the chain."""
    last: dict[OutPoint, PaymentDisconnected] = {}
    for event in history:
        match event:
            case PaymentDisconnected():
                last[event.outpoint] = event
            case PaymentSeen() | PaymentIncluded():
                last.pop(event.outpoint, None)
            case _:
                pass
    return last
