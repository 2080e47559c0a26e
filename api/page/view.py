"""What a payment page says, as data: pure, so that every state can be looked at in a test.

The state is the invoice's; nothing is remembered here. What a merchant or payer wrote is plain text
until the template escapes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from urllib.parse import urlsplit

from actors.chain_supervisor import ChainHealth
from actors.core.assets import Catalogue
from actors.core.invoice import Invoice, State
from actors.order_book import Order
from actors.order_status import status_of
from api.page.money_words import MoneyWords
from api.page.notes import Note, notes_on, trouble_changes_at_ms
from api.page.words import Phrase, Words, phrase
from api.payment_link import due_base, payment_link

MAX_LINK = 2048


class Phase(Enum):
    """Where the payer stands; finer than an order's status, for time and money are in it."""

    WAITING = "waiting"
    PARTIAL = "partial"
    LATE_WINDOW = "late_window"
    CHECKING = "checking"
    """The deadline is over, and not recorded yet: money may still turn out to be in time."""
    CONFIRMING = "confirming"
    PAID = "paid"
    REVERSED = "reversed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


_TO_PAY = (Phase.WAITING, Phase.PARTIAL, Phase.LATE_WINDOW)
_WITH_WAY_BACK = (Phase.CONFIRMING, Phase.PAID, Phase.REVERSED, Phase.EXPIRED, Phase.CANCELLED)


@dataclass(frozen=True, slots=True)
class Progress:
    """Confirmations."""

    have: int
    need: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Instructions:
    """How to pay what is missing."""

    partial: bool
    amount: str | None
    """For people; None for any amount."""
    amount_plain: str
    """For the clipboard."""
    address: str
    memo: str | None
    link: str | None
    """Opens a wallet; it is what the QR code says."""
    deadline_ms: int

    @property
    def qr(self) -> str | None:
        """What the QR code says. A bare address would lose money where a memo is needed."""
        return self.link or (self.address if self.memo is None else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Everything in the part of the page that changes."""

    phase: Phase
    status: str
    """The order's: PENDING, CONFIRMING, SUCCESSFUL, EXPIRED or CANCELED."""
    headline: Phrase
    text: Phrase
    amount: str | None
    """What is asked for altogether; None for any amount."""
    asset: str
    """With its chain, in words."""
    test_network: str | None
    notes: tuple[Note, ...]
    progress: Progress | None
    instructions: Instructions | None
    back: str | None
    """The merchant's http(s) URL, once there is nothing more to do here."""
    redirect: bool
    """Whether to go there without being asked: nothing is left to be read."""
    final: bool
    changes_at_ms: int | None
    """The next instant at which time alone changes this."""


def page_view(
    order: Order,
    invoice: Invoice,
    *,
    catalogue: Catalogue,
    health: ChainHealth | None,
    now_ms: int,
    words: Words,
) -> View:
    """What the payer of this order is told at this moment."""
    phase = _phase(invoice, now_ms)
    money = MoneyWords(invoice.terms, catalogue, words)
    notes = notes_on(invoice, money, health, now_ms=now_ms)
    required_base = invoice.terms.required_base
    ended = phase in (Phase.PAID, Phase.EXPIRED, Phase.CANCELLED)
    back = _safe_link(order.callback_url) if phase in _WITH_WAY_BACK else None
    return View(
        phase=phase,
        status=status_of(invoice).name,
        headline=phrase(phase.value),
        text=_text(phase, invoice, money),
        amount=money.amount(required_base) if required_base else None,
        asset=money.asset,
        test_network=money.test_network,
        notes=notes,
        progress=_progress(invoice, health) if phase is Phase.CONFIRMING else None,
        instructions=_instructions(phase, invoice, money) if phase in _TO_PAY else None,
        back=back,
        redirect=back is not None and ended and not notes and _nothing_lost(invoice),
        final=phase in (Phase.PAID, Phase.CANCELLED),
        changes_at_ms=_changes_at_ms(invoice, health, now_ms),
    )


def _phase(invoice: Invoice, now_ms: int) -> Phase:
    match invoice.state:
        case State.SEEN:
            return Phase.CONFIRMING
        case State.SETTLED:
            return Phase.REVERSED if invoice.reversed else Phase.PAID
        case State.EXPIRED:
            return Phase.EXPIRED
        case State.CANCELLED:
            return Phase.CANCELLED
    if now_ms >= invoice.terms.expires_at_ms:
        return Phase.LATE_WINDOW if now_ms < invoice.closes_at_ms else Phase.CHECKING
    return Phase.PARTIAL if invoice.credited_base else Phase.WAITING


def _text(phase: Phase, invoice: Invoice, money: MoneyWords) -> Phrase:
    required_base, credited = invoice.terms.required_base, money.amount(invoice.credited_base)
    match phase:
        case Phase.WAITING if required_base:
            return phrase("waiting_text", amount=money.amount(required_base))
        case Phase.WAITING:
            return phrase("waiting_any_text")
        case Phase.PARTIAL:
            return phrase(
                "partial_text",
                received=credited,
                total=money.amount(required_base),
                missing=money.amount(due_base(invoice)),
            )
        case Phase.LATE_WINDOW:
            return phrase("late_window_text", until=money.words.instant(invoice.closes_at_ms))
        case Phase.CONFIRMING if invoice.terms.finality is not None:
            return phrase("finality_text", received=credited)
        case Phase.CONFIRMING | Phase.PAID:
            return phrase(f"{phase.value}_text", received=credited)
        case Phase.EXPIRED if invoice.received_base:
            return _expired_with_money(invoice, money)
    return phrase(f"{phase.value}_text")


def _expired_with_money(invoice: Invoice, money: MoneyWords) -> Phrase:
    if not invoice.credited_base:
        return phrase("expired_late_text")
    return phrase(
        "expired_partial_text",
        received=money.amount(invoice.credited_base),
        total=money.amount(invoice.terms.required_base),
    )


def _progress(invoice: Invoice, health: ChainHealth | None) -> Progress | None:
    """Confirmations had, of those that the payment needs which waits longest."""
    if invoice.terms.finality is not None:
        return None
    need = max((invoice.depth_of(one) for one in invoice.credited()), default=0)
    wake, tip = invoice.wake_height(), health.tip if health else None
    left = need if wake is None or tip is None else wake - tip.height
    # A block is counted a moment before what follows from it is recorded.
    return Progress(min(need - 1, max(0, need - left)), need) if need else None


def _instructions(phase: Phase, invoice: Invoice, money: MoneyWords) -> Instructions:
    terms, missing_base = invoice.terms, due_base(invoice)
    late = phase is Phase.LATE_WINDOW
    return Instructions(
        partial=missing_base < terms.required_base,
        amount=money.amount(missing_base) if missing_base else None,
        amount_plain=money.plain(missing_base),
        address=terms.address,
        memo=terms.memo,
        link=payment_link(invoice, money.catalogue),
        deadline_ms=invoice.closes_at_ms if late else terms.expires_at_ms,
    )


def _nothing_lost(invoice: Invoice) -> bool:
    return invoice.state is State.SETTLED or not invoice.received_base


def _safe_link(url: str) -> str | None:
    """The URL, if following it does nothing but open a page (no `javascript:`)."""
    if len(url) > MAX_LINK or not url.isprintable() or " " in url:
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return url if parts.scheme in ("http", "https") and parts.hostname else None


def _changes_at_ms(invoice: Invoice, health: ChainHealth | None, now_ms: int) -> int | None:
    instants = []
    if invoice.state is State.PENDING:
        instants += [invoice.terms.expires_at_ms, invoice.closes_at_ms]
    if invoice.open:
        instants.append(trouble_changes_at_ms(health) or 0)
    return min((at_ms for at_ms in instants if at_ms > now_ms), default=None)
