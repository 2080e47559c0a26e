"""Whether every view of every invoice, on every wire, is what the customers did on the chain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tests.load.customers import Habit, Story
from tests.load.ears import EarReport
from tests.load.watchers import Seen, StreamReport

GOIPAY = {"CONFIRMED": "013", "EXPIRED": "02"}
"""The statuses that GoiPay's stream tells of an invoice with that end, by their numbers."""
SHOWN = 5

Payments = dict[str, tuple[int, str]]


class Account:
    """Differences, by kind, with the first few of each in words."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.words: dict[str, list[str]] = {}

    def differs(self, kind: str, words: object) -> None:
        self.counts[kind] += 1
        shown = self.words.setdefault(kind, [])
        if len(shown) < SHOWN:
            shown.append(str(words)[:500])


def settle(
    stories: Iterable[Story],
    *,
    chain: Mapping[str, int],
    last_seq: int,
    streams: StreamReport,
    ears: EarReport,
    polled: Mapping[str, Mapping[str, Any]],
) -> Account:
    """`chain`: txid → height of all that the node has in blocks; `polled`: REST's documents."""
    account = Account()
    told = {story.invoice_id: story for story in stories}
    for story in told.values():
        if story.habit is Habit.BUMP:
            story.decide(chain)
        _story(account, story, chain, streams, polled)
    for name, found in (("stream", streams.invoices), ("poll", polled), ("GoiPay", streams.goipay)):
        for invoice_id in found.keys() - told.keys():
            account.differs(f"{name}: an invoice that nobody asked for", invoice_id)
    _events(account, last_seq, streams, ears)
    return account


def _story(
    account: Account,
    story: Story,
    chain: Mapping[str, int],
    streams: StreamReport,
    polled: Mapping[str, Mapping[str, Any]],
) -> None:
    due = _due(account, story, chain)
    seen = streams.invoices.get(story.invoice_id, Seen(status="never heard of"))
    due = _without_unseen(due, seen)
    told = _plain(seen.payments)
    if (seen.status, seen.price_base, told) != (story.status, story.price_base, due):
        account.differs("stream: an invoice differs from the chain", (seen, due, story))
    shown = polled.get(story.invoice_id)
    if shown is None:
        account.differs("poll: an invoice is missing", story)
    else:
        for what, wanted, found in _compared(story, due, seen, shown):
            if wanted != found:
                account.differs(f"poll: {what} differs", (story.invoice_id, wanted, found))
    if streams.goipay.get(story.invoice_id) != GOIPAY[story.status]:
        found = streams.goipay.get(story.invoice_id)
        account.differs("GoiPay: statuses differ", (story, found))


def _due(account: Account, story: Story, chain: Mapping[str, int]) -> Payments:
    """Outpoint → amount and state, as the customer and the node's blocks have it."""
    due: Payments = {}
    for payment in story.payments:
        is_standing = payment.replaced_by is None
        if is_standing != (payment.txid in chain):
            account.differs("the chain is not what the customers did", payment)
        state = "included" if is_standing else "replaced"
        due[f"{payment.txid}:0"] = (payment.amount_base, state)
    return due


def _without_unseen(due: Payments, seen: Seen) -> Payments:
    """What was replaced before the daemon could look at it is nowhere recorded, and need not be."""
    return {
        outpoint: (amount_base, state)
        for outpoint, (amount_base, state) in due.items()
        if state == "included" or outpoint in seen.payments
    }


def _plain(payments: Payments) -> Payments:
    """Who learns of a replacement only from the block that has it calls it a double-spend."""
    return {
        outpoint: (amount_base, "replaced" if state == "double_spent" else state)
        for outpoint, (amount_base, state) in payments.items()
    }


def _compared(
    story: Story, due: Payments, seen: Seen, shown: Mapping[str, Any]
) -> Iterator[tuple[str, object, object]]:
    standing = sum(one.amount_base for one in story.standing)
    credited = sum(one.amount_base for one in story.standing if one.in_time)
    payments = _plain(
        {one["outpoint"]: (int(one["amount_base"]), one["state"]) for one in shown["payments"]}
    )
    yield "status", story.status, shown["status"]
    yield "amount", story.price_base, int(shown["amount_base"])
    yield "received money", standing, int(shown["received_base"])
    yield "credited money", credited, int(shown["credited_base"])
    yield "payments", due, payments
    yield "version", seen.version, shown["version"]
    yield "overpaid", standing > story.price_base, shown["flags"]["overpaid"]
    yield "underpaid", 0 < standing < story.price_base, shown["flags"]["underpaid"]
    yield "late", any(not one.in_time for one in story.standing), shown["flags"]["late"]
    yield "reversed", False, shown["flags"]["reversed"]


def _events(account: Account, last_seq: int, streams: StreamReport, ears: EarReport) -> None:
    """All numbers of the log, and the same event under each of them on every wire."""
    reference = streams.heard.digests
    for name, heard in (("stream", streams.heard), ("SSE", ears.sent), ("webhooks", ears.hooked)):
        if len(heard.digests) - 1 > last_seq:
            account.differs(f"{name}: events beyond the log", len(heard.digests) - 1 - last_seq)
        for seq in range(1, last_seq + 1):
            digest = heard.digests[seq] if seq < len(heard.digests) else 0
            if not digest:
                account.differs(f"{name}: an event is missing", seq)
            elif seq < len(reference) and reference[seq] and digest != reference[seq]:
                account.differs(f"{name}: an event differs from the stream's", seq)
