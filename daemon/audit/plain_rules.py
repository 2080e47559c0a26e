"""The rules of `docs/invoice-states.md` once more, as plain sums, and what contradicts them.

Nothing of `core.decision`, and none of the sums that `core.invoice` makes, is used. What the chain
does not tell (when something came into the mempool, what a replaced transaction was) is believed,
and counted as believed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from actors.core.assets import Asset, Chain
from actors.core.chain_events import OutPoint
from actors.core.events import Terms
from actors.core.invoice import Invoice, State
from actors.core.money import format_decimal
from actors.core.payment import Payment
from daemon.audit.chain_reading import Paid, Placed, has_lock, merged
from daemon.audit.findings import Finding, Kind, Trust, Verdict

UNCONFIRMED_MS = 10 * 60_000
"""What is nowhere for so long, while the daemon is at work, is no money on its way."""
REFUSED_KEPT = 16
CONTRACT_FROM = 2**20
"""Output numbers that stand for transfers by contracts, on chains that have those."""
SLACK_MS = {"bitcoin": 7_200_000, "monero": 7_200_000}
"""How far a header's time may be from the truth, by the family's own rules."""
OTHER_SLACK_MS = 120_000


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a coin: what is known beside the outputs themselves."""

    chain: Chain
    assets: Mapping[str, Asset]
    bound: int
    """The last block that the daemon has told and that is active: above it nothing is compared."""
    mempool: Collection[bytes]
    now_ms: int
    is_alive: bool
    """Whether the daemon has read a block lately."""
    is_own_node: bool
    final_height: int | None
    is_blind: bool
    """Whether the node did not show all that contracts paid."""
    missed_from: int | None = None
    """The first block that this invoice was not told of (it is set aside); None: it was of all."""

    @property
    def slack_ms(self) -> int:
        return SLACK_MS.get(self.chain.family, OTHER_SLACK_MS)


def compare(stored: Invoice, paid: Paid, waiting: Sequence[Placed], look: Look) -> Verdict:
    """Compare a stored invoice with what the chain and the mempool have of it."""
    return _Comparison(stored, paid, waiting, look).run()


class _Comparison:
    def __init__(self, stored: Invoice, paid: Paid, waiting: Sequence[Placed], look: Look) -> None:
        self.stored = stored
        self.terms: Terms = stored.terms
        self.look = look
        self.waiting = {one.txid for one in waiting} | {
            p.outpoint.txid for p in stored.payments if p.outpoint.txid in look.mempool
        }
        self.unasked = [one for one in waiting if stored.find(one.output.outpoint) is None]
        self.bound = look.bound
        if look.missed_from is not None:
            self.bound = min(look.bound, look.missed_from - 1)
        self.outputs = merged(
            [one for one in paid.outputs.values() if (one.height or 0) <= self.bound],
            {p.outpoint for p in stored.payments},
        )
        self.above = {one.txid for one in paid.outputs.values()} - {
            one.txid for one in self.outputs.values()
        }
        self.refused = {at for at, height in paid.refused.items() if height <= self.bound}
        self.unsure: set[OutPoint] = set()
        """Stored payments that may be there, and are not known to be."""
        self.verdict = Verdict(payments=len(self.outputs))

    def run(self) -> Verdict:
        if self.look.missed_from is not None:
            self.trust(Trust.SET_ASIDE)
        absent: list[Payment] = []
        for payment in self.stored.payments:
            found = self.outputs.get(payment.outpoint)
            if found is not None:
                self.both(payment, found)
            elif payment.gone is not None:
                self.trust(Trust.GONE)
            elif not self.excused(payment):
                absent.append(payment)
        known = {p.outpoint for p in self.stored.payments}
        missing = [one for at, one in self.outputs.items() if at not in known]
        absent, missing = self.same_contracts(absent, missing)
        for payment in absent:
            self.add(Kind.ABSENT, self.told(payment), self.nothing(payment), payment.outpoint.txid)
        for one in missing:
            self.unrecorded(one)
        for one in self.unasked:
            if one.txid not in self.above:
                self.trust(Trust.NOT_READ)
        self.check_refused()
        self.check_state()
        return self.verdict

    # --- payment by payment -----------------------------------------------------------------------

    def both(self, payment: Payment, found: Placed) -> None:
        output, block = found.output, found.block
        assert block is not None
        txid = found.txid
        if payment.gone is not None or (payment.height, payment.block_hash) != (
            block.height,
            block.hash,
        ):
            self.add(Kind.PLACE, self.told(payment), f"in {self.at(found)}", txid)
        if payment.asset != output.asset:
            self.add(Kind.ASSET, payment.asset, output.asset, txid)
        elif payment.amount_base != output.amount_base:
            stored, real = (
                self.money(base, output.asset) for base in (payment.amount_base, output.amount_base)
            )
            self.add(Kind.AMOUNT, stored, real, txid)
        self.check_late(payment, block.time_s * 1000, is_locked=has_lock(found))

    def check_late(self, payment: Payment, mined_ms: int, *, is_locked: bool) -> None:
        deadline_ms = self.terms.expires_at_ms
        txid = payment.outpoint.txid
        header = f"its block's time is {_seconds(mined_ms - deadline_ms)} the deadline"
        if is_locked:
            self.trust(Trust.LOCKED)
        elif not payment.late:
            if self.stored.state is State.CANCELLED:
                self.add(Kind.LATE, "in time", "nothing had come when it was cancelled", txid)
            elif payment.first_seen_ms > deadline_ms:
                seen = _seconds(payment.first_seen_ms - deadline_ms)
                self.add(Kind.LATE, f"in time, though first seen {seen} the deadline", header, txid)
            elif mined_ms > deadline_ms:
                self.trust(Trust.FIRST_SEEN)
        elif payment.accepted:
            if mined_ms > deadline_ms and self.late_ms():
                self.trust(Trust.LATE_POLICY)
            elif not self.late_ms():
                self.add(Kind.LATE, "late, and counted", "no policy accepts late money", txid)
        elif mined_ms <= deadline_ms - self.look.slack_ms:
            if self.stored.state is not State.CANCELLED:
                self.add(Kind.LATE, "late", header, txid)
        elif mined_ms <= deadline_ms:
            self.trust(Trust.JUDGED_LATE)

    def excused(self, payment: Payment) -> bool:
        """Whether what is stored and not found can be believed."""
        if payment.height is not None:
            above = payment.height > self.bound
            if above:
                self.believe(payment, Trust.NOT_READ)
            return above
        if payment.outpoint.txid in self.waiting:
            return True
        if payment.outpoint.txid in self.above:
            self.believe(payment, Trust.NOT_READ)
            return True
        look = self.look
        is_old = look.now_ms - payment.first_seen_ms > UNCONFIRMED_MS
        if look.is_own_node and look.is_alive and is_old and look.missed_from is None:
            return False
        self.believe(payment, Trust.UNCONFIRMED)
        return True

    def same_contracts(
        self, absent: list[Payment], missing: list[Placed]
    ) -> tuple[list[Payment], list[Placed]]:
        """Without those that two nodes name differently, or this one cannot show."""
        if self.look.chain.family != "evm":
            return absent, missing
        native = self.look.chain.coin
        sums: dict[int, int] = {}
        for payment in absent:
            if payment.outpoint.index >= CONTRACT_FROM and payment.height is not None:
                sums[payment.height] = sums.get(payment.height, 0) + payment.amount_base
        for one in missing:
            if one.output.outpoint.index >= CONTRACT_FROM and one.height is not None:
                sums[one.height] = sums.get(one.height, 0) - one.output.amount_base
        same = {height for height, rest in sums.items() if rest == 0}
        left, more = [], []
        for payment in absent:
            by_contract = payment.outpoint.index >= CONTRACT_FROM and payment.asset == native
            if by_contract and (payment.height in same or self.look.is_blind):
                self.believe(payment, Trust.CONTRACT)
            else:
                left.append(payment)
        for one in missing:
            by_contract = one.output.outpoint.index >= CONTRACT_FROM
            if by_contract and (one.height in same or self.came_when_closed(one)):
                self.trust(Trust.CONTRACT)
            else:
                more.append(one)
        return left, more

    def came_when_closed(self, one: Placed) -> bool:
        """Balances are compared for open invoices only: what a contract pays later is not seen."""
        closed_ms = self.stored.settled_at_ms
        if closed_ms is None and not _is_open(self.stored):
            closed_ms = self.stored.updated_at_ms
        assert one.block is not None
        by_balance = one.output.outpoint.index >= 2 * CONTRACT_FROM
        since_ms = None if closed_ms is None else closed_ms - self.look.slack_ms
        return by_balance and since_ms is not None and one.block.time_s * 1000 >= since_ms

    def unrecorded(self, one: Placed) -> None:
        others = [p for p in self.stored.payments if p.outpoint.txid == one.txid]
        said = "nothing" if not others else f"of this transaction only {len(others)} others"
        output = one.output
        real = f"{self.money(output.amount_base, output.asset)} in {self.at(one)}"
        self.add(Kind.UNRECORDED, said, real, one.txid)

    def check_refused(self) -> None:
        known = {one.outpoint for one in self.stored.refused}
        if len(known) >= REFUSED_KEPT:
            return
        for outpoint in sorted(self.refused - known):
            self.add(Kind.REFUSED, "no alarm", "an output that proves no amount", outpoint.txid)

    # --- the invoice ------------------------------------------------------------------------------

    def check_state(self) -> None:
        match self.stored.state:
            case State.PENDING:
                self.check_pending()
            case State.SEEN:
                self.check_seen()
            case State.SETTLED:
                self.check_settled()
            case State.EXPIRED:
                sure = self.sum_of(self.sure(before_ms=self.look.slack_ms))
                if sure >= self.needed():
                    self.state("expired", f"{self.own(sure)} came in time, {self.wanted()}")
            case State.CANCELLED:
                pass  # A payment that was there then would not be late: said above.

    def check_pending(self) -> None:
        sure = self.there()
        if sure >= self.needed():
            self.state("pending", f"{self.own(sure)} came in time, {self.wanted()}")

    def check_seen(self) -> None:
        possible = self.possible()
        if possible < self.needed():
            self.state("paid, waits for confirmations", f"{self.own(possible)}, {self.wanted()}")
            return
        deep = self.sum_of(one for one in self.sure() if self.is_deep(one, strict=True))
        if deep < self.needed():
            return
        if self.terms.finality is not None:
            self.trust(Trust.FINALITY)
        else:
            self.state("waits for confirmations", f"{self.own(deep)} has them, {self.wanted()}")

    def check_settled(self) -> None:
        possible = self.possible()
        if self.stored.reversed:
            sure = self.there()
            if sure >= self.needed():
                said = "settled, and its money is gone (alarm)"
                self.add(Kind.REVERSED, said, f"{self.own(sure)} is there, {self.wanted()}")
            return
        if possible < self.needed():
            self.state("settled", f"{self.own(possible)} is there, {self.wanted()}")
            return
        deep = self.sum_of(one for one in self.sure() if self.is_deep(one, strict=False))
        if self.unsure or deep >= self.needed() or self.least_depth() == 0:
            return
        is_told = self.look.is_own_node and self.look.final_height is not None
        if self.terms.finality is not None and not is_told:
            self.trust(Trust.FINALITY)
            return
        self.add(
            Kind.STATE,
            "settled",
            f"{self.own(deep)} has the confirmations, {self.wanted()}",
            unless_moved=self.least_depth(),
        )

    def sure(self, *, before_ms: int = 0) -> Iterable[Placed]:
        """What is in blocks and came in time for all that is known; what counts for the amount.

        What is not on record counts if its block's time is that much before the deadline.
        """
        keys: set[bytes] = set()
        for one in self.in_order():
            if self.is_locked(one) or one.output.asset != self.terms.asset or one.block is None:
                continue
            payment = self.stored.find(one.output.outpoint)
            if payment is not None and payment.gone is None:
                counts = not payment.late or payment.accepted
            else:
                in_time_ms = self.terms.expires_at_ms - before_ms
                counts = one.block.time_s * 1000 <= in_time_ms and not has_lock(one)
            key = one.output.one_time_key
            if counts and (key is None or key not in keys):
                if key is not None:
                    keys.add(key)
                yield one

    def there(self) -> int:
        """What counts for the amount, in blocks, and in the mempool where it is on record."""
        blocks = list(self.sure())
        keys = {one.output.one_time_key for one in blocks} - {None}
        total = self.sum_of(blocks)
        for payment in self.stored.payments:
            is_ours = payment.gone is None and payment.asset == self.terms.asset
            counts = (not payment.late or payment.accepted) and not payment.locked
            is_waiting = payment.height is None and payment.outpoint.txid in self.waiting
            if is_ours and counts and is_waiting and payment.one_time_key not in keys:
                total += payment.amount_base
                keys |= {payment.one_time_key} - {None}
        return total

    def possible(self) -> int:
        """The most that may be there and count: in blocks, in the mempool, and what is believed."""
        total = self.sum_of(self.sure())
        for payment in self.stored.payments:
            if payment.gone is not None or payment.asset != self.terms.asset:
                continue
            if payment.outpoint in self.outputs or (payment.late and not payment.accepted):
                continue
            if payment.outpoint in self.unsure or payment.outpoint.txid in self.waiting:
                total += payment.amount_base
        for one in self.unasked:
            total += one.output.amount_base if one.output.asset == self.terms.asset else 0
        return total

    def in_order(self) -> Iterable[Placed]:
        """As they were recorded, then as they are on the chain: of two with one key the first
        counts."""
        recorded = [p.outpoint for p in self.stored.payments if p.outpoint in self.outputs]
        rest = (at for at in self.outputs if at not in set(recorded))
        return (self.outputs[at] for at in [*recorded, *rest])

    def is_locked(self, one: Placed) -> bool:
        height, until_ms = one.output.unlock_height, one.output.unlock_ms
        if height is not None and height > self.bound:
            return True
        return until_ms is not None and until_ms > self.look.now_ms

    def is_deep(self, one: Placed, *, strict: bool) -> bool:
        """Whether it has the confirmations. `strict`: whatever depth might have been meant; else
        whether it has the least of them."""
        assert one.height is not None
        if self.terms.finality is not None:
            return self.look.final_height is not None and self.look.final_height >= one.height
        depth = self.most_depth(one) if strict else self.least_depth()
        return self.bound - one.height + 1 >= depth

    def least_depth(self) -> int:
        terms, policy = self.terms, self.terms.policy
        if terms.finality is not None:
            return 1
        if policy is None or not policy.bands:
            return terms.confirmations
        if terms.required_base:
            return _band(terms, terms.required_base)
        self.verdict.trust[Trust.OPEN_DEPTH] = 1
        return min(terms.confirmations, *(band.confirmations for band in policy.bands))

    def most_depth(self, one: Placed) -> int:
        terms, policy = self.terms, self.terms.policy
        if policy is None:
            return terms.confirmations
        total = terms.required_base or self.possible()
        payment = self.stored.find(one.output.outpoint)
        replaceable = payment is None or payment.replaceable
        more = policy.rbf_confirmations or 0 if replaceable else 0
        return max(_band(terms, total), more)

    def needed(self) -> int:
        """What covers the invoice, by its amount and the policy's tolerance."""
        required, policy = self.terms.required_base, self.terms.policy
        if policy is not None:
            share = required * policy.tolerance_bps // 10_000
            fixed = policy.tolerance_base
            if not policy.tolerance_bps:
                required -= fixed
            else:
                required -= min(share, fixed) if fixed else share
        return max(1, required)

    def late_ms(self) -> int:
        return 0 if self.terms.policy is None else self.terms.policy.accept_late_s * 1000

    # --- words ------------------------------------------------------------------------------------

    def sum_of(self, several: Iterable[Placed]) -> int:
        return sum(one.output.amount_base for one in several)

    def trust(self, why: Trust) -> None:
        self.verdict.trust[why] += 1

    def believe(self, payment: Payment, why: Trust) -> None:
        self.unsure.add(payment.outpoint)
        self.trust(why)

    def state(self, log: str, chain: str) -> None:
        self.add(Kind.STATE, log, chain)

    def add(
        self,
        kind: Kind,
        log: str,
        chain: str,
        txid: bytes | None = None,
        *,
        unless_moved: int | None = None,
    ) -> None:
        text = None if txid is None else self.look.chain.hash_text(txid)
        terms = self.terms
        self.verdict.findings.append(
            Finding(
                kind, terms.invoice_id, terms.chain, terms.address, log, chain, text, unless_moved
            )
        )

    def told(self, payment: Payment) -> str:
        if payment.gone is not None:
            return f"gone: {payment.gone.value}"
        money = self.money(payment.amount_base, payment.asset)
        if payment.height is None or payment.block_hash is None:
            return f"{money} in the mempool"
        return f"{money} in block {payment.height} {_short(payment.block_hash)}"

    def nothing(self, payment: Payment) -> str:
        if payment.height is None:
            return "neither in the mempool nor in a block"
        return "in the mempool" if payment.outpoint.txid in self.waiting else "nothing there"

    def at(self, one: Placed) -> str:
        assert one.block is not None
        return f"block {one.block.height} {_short(one.block.hash)}"

    def money(self, amount_base: int, asset_id: str) -> str:
        asset = self.look.assets.get(asset_id)
        if asset is None:
            return f"{amount_base} base units of {asset_id}"
        return f"{format_decimal(amount_base, asset.exponent)} {asset_id}"

    def own(self, amount_base: int) -> str:
        return self.money(amount_base, self.terms.asset)

    def wanted(self) -> str:
        return f"{self.own(self.needed())} is needed"


def _band(terms: Terms, amount_base: int) -> int:
    """The confirmations that the policy asks for this amount."""
    assert terms.policy is not None
    depth = terms.confirmations
    for band in terms.policy.bands:
        if band.from_base <= amount_base:
            depth = band.confirmations
    return depth


def _is_open(invoice: Invoice) -> bool:
    return invoice.state in (State.PENDING, State.SEEN)


def _short(block_hash: bytes) -> str:
    return f"{block_hash.hex()[:12]}…"


def _seconds(difference_ms: int) -> str:
    return f"{abs(difference_ms) // 1000} s {'before' if difference_ms <= 0 else 'after'}"
