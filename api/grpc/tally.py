"""tally.v1: invoices exactly, and their events from any point on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from actors.core.codec import EVENT_KINDS
from actors.core.explain import ChainSituation, explain
from actors.core.invoice import Invoice
from actors.core.money import AmountError, parse_decimal
from actors.core.outcomes import NoSuchInvoice, NoSuchUser, Refusal
from actors.idempotency import KeyMalformed, KeyReused, StillAtWork
from actors.invoicing import LAST_INSTANT_MS, Invoicing
from actors.new_invoice import NewInvoice
from actors.outbox import CursorRefused, Filter, Outbox
from actors.ports import InvoiceQuery, InvoiceRow, Order, WallClock
from actors.repeats import Repeats
from api.access import current_caller, repeated, sees
from api.convert import EPOCH, format_instant
from api.errors import answer, cursor_refused
from api.grpc.call import Call, current_call, pushed
from api.grpc.tally_messages import STATE_OF, STATUS_OF, invoice_message, policy_of
from api.grpc.tally_refusals import Violations, refused, store_failures
from api.grpc.watching import Watching
from api.rest.cursors import CursorError, cursor_after, read_cursor
from proto.tally.v1 import (
    CancelInvoiceRequest,
    CancelInvoiceResponse,
    CreateInvoiceRequest,
    CreateInvoiceResponse,
    ExplainInvoiceRequest,
    ExplainInvoiceResponse,
    ExplainInvoiceResponseReason,
    GetInvoiceRequest,
    GetInvoiceResponse,
    InvoiceOrder,
    InvoiceServiceBase,
    ListInvoicesRequest,
    ListInvoicesResponse,
    WatchInvoicesRequest,
    WatchInvoicesResponse,
)
from proto.tally.v1 import Invoice as WireInvoice

PAGE = 50
MAX_PAGE = 500
HEARTBEAT_S = 15.0
_HEARTBEATS = (timedelta(seconds=1), timedelta(seconds=60))
_MS = timedelta(milliseconds=1)
_ORDERS = {
    InvoiceOrder.CREATED: (Order.CREATED, False),
    InvoiceOrder.CREATED_DESCENDING: (Order.CREATED, True),
    InvoiceOrder.UPDATED: (Order.UPDATED, False),
    InvoiceOrder.UPDATED_DESCENDING: (Order.UPDATED, True),
}


class InvoiceService(InvoiceServiceBase):
    """Handlers of tally.v1.InvoiceService."""

    def __init__(
        self, invoicing: Invoicing, repeats: Repeats, *, outbox: Outbox, clock: WallClock
    ) -> None:
        self._invoicing = invoicing
        self._repeats = repeats
        self._outbox = outbox
        self._clock = clock
        self.watching = Watching(outbox)

    async def create_invoice(self, message: CreateInvoiceRequest) -> CreateInvoiceResponse:
        wanted = self._wanted(message)
        if not sees(wanted.user_id):
            raise _refused(NoSuchUser(wanted.user_id))
        with store_failures():
            outcome = await self._repeats.create_invoice(
                wanted, caller=current_caller(), key=message.idempotency_key or None
            )
        if isinstance(outcome, KeyReused | StillAtWork | KeyMalformed):
            raise refused(repeated(outcome))
        if not isinstance(outcome, Invoice):
            raise _refused(outcome)
        return CreateInvoiceResponse(invoice=self._message(outcome))

    async def get_invoice(self, message: GetInvoiceRequest) -> GetInvoiceResponse:
        row = await self._known(message.invoice_id)
        return GetInvoiceResponse(invoice=self._message(row.invoice))

    async def cancel_invoice(self, message: CancelInvoiceRequest) -> CancelInvoiceResponse:
        row = await self._known(message.invoice_id)
        with store_failures():
            outcome = await self._invoicing.cancel(row.invoice.terms.invoice_id)
        if not isinstance(outcome, Invoice):
            raise _refused(outcome)
        return CancelInvoiceResponse(invoice=self._message(outcome))

    async def explain_invoice(self, message: ExplainInvoiceRequest) -> ExplainInvoiceResponse:
        invoice_id = (await self._known(message.invoice_id)).invoice.terms.invoice_id
        with store_failures():
            # The history first: what comes in between is in the state, and only lacks a nicety.
            history = await self._invoicing.history(invoice_id)
        invoice = (await self._known(message.invoice_id)).invoice
        reasons = explain(
            invoice,
            now_ms=self._clock.now_ms(),
            catalogue=self._invoicing.catalogue,
            situation=self._situation(invoice.terms.chain),
            history=[entry.event for entry in history],
        )
        return ExplainInvoiceResponse(
            invoice_id=str(invoice_id),
            status=STATUS_OF[invoice.state],
            reasons=[ExplainInvoiceResponseReason(code=one.code, text=one.text) for one in reasons],
        )

    async def list_invoices(self, message: ListInvoicesRequest) -> ListInvoicesResponse:
        query, size = self._query(message)
        with store_failures():
            # One more than the page shows whether there is another.
            rows = await self._invoicing.invoices(replace(query, limit=size + 1))
        page = rows[:size]
        return ListInvoicesResponse(
            invoices=[self._message(row.invoice) for row in page],
            next_page_token=cursor_after(page[-1], query) if len(rows) > size else "",
        )

    def watch_invoices(self, message: WatchInvoicesRequest) -> AsyncIterator[WatchInvoicesResponse]:
        return pushed(self._watch(current_call(), message))

    async def _watch(self, call: Call, message: WatchInvoicesRequest) -> None:
        wanted = await self._filter(message)
        after_seq: int | CursorRefused | None = None
        given = message.after_id if message.after_seq is None else message.after_seq
        with store_failures():
            if given is not None:
                after_seq = await self._outbox.parse_cursor(given)
            if isinstance(after_seq, CursorRefused):
                raise refused(cursor_refused(after_seq))
            heartbeat_s = (message.heartbeat or timedelta(seconds=HEARTBEAT_S)).total_seconds()
            await self.watching.serve(
                call, after_seq=after_seq, wanted=wanted, heartbeat_s=heartbeat_s
            )

    # --- reading requests -------------------------------------------------------------------------

    def _wanted(self, message: CreateInvoiceRequest) -> NewInvoice:
        wrong = Violations()
        user_id = wrong.uuid("user_id", message.user_id)
        amount_base = self._amount_base(message, wrong)
        ttl_ms, expires_at_ms = 0, None
        if message.expires_at is not None:
            expires_at_ms = (message.expires_at - EPOCH) // _MS
            now_ms = self._clock.now_ms()
            if expires_at_ms <= now_ms:
                wrong.add("expires_at", f"has passed; it is {format_instant(now_ms)} now")
        elif message.ttl is None:
            wrong.add("deadline", "is missing: give expires_at or ttl")
        elif (ttl_ms := message.ttl // _MS) < 0:
            wrong.add("ttl", "is below 0")
        policy = None if message.policy is None else policy_of(message.policy, wrong)
        wrong.check()
        assert user_id is not None
        return NewInvoice(
            user_id=user_id,
            asset=message.asset,
            amount_base=amount_base,
            ttl_ms=ttl_ms,
            confirmations=message.confirmations,
            expires_at_ms=expires_at_ms,
            policy=policy,
            metadata=message.metadata,
        )

    def _amount_base(self, message: CreateInvoiceRequest, wrong: Violations) -> int:
        if message.amount_base is not None:
            return wrong.base_units("amount_base", message.amount_base)
        if message.amount_decimal is None:
            wrong.add("amount", "is missing: give amount_decimal or amount_base; 0 is any amount")
            return 0
        asset = self._invoicing.asset(message.asset)
        try:
            # Without the asset its own refusal follows.
            return parse_decimal(message.amount_decimal, asset.exponent if asset else 80)
        except AmountError as error:
            wrong.add("amount_decimal", f"cannot be read: {error}")
            return 0

    def _query(self, message: ListInvoicesRequest) -> tuple[InvoiceQuery, int]:
        wrong = Violations()
        user_id = wrong.uuid("user_id", message.user_id) if message.user_id else None
        states = []
        for number, status in enumerate(message.statuses):
            state = STATE_OF.get(status)
            if state is None:
                wrong.add(f"statuses[{number}]", f"is no status: {int(status)}")
            else:
                states.append(state.value)
        for number, asset in enumerate(message.assets):
            if self._invoicing.asset(asset) is None:
                wrong.add(f"assets[{number}]", f"is no asset of this daemon: {asset[:60]!r}")
        if message.page_size > MAX_PAGE:
            wrong.add("page_size", f"must be at most {MAX_PAGE}, not {message.page_size}")
        since_ms = None
        if message.updated_since is not None:
            since_ms = min((message.updated_since - EPOCH) // _MS, LAST_INSTANT_MS)
        usual = InvoiceOrder.CREATED_DESCENDING if since_ms is None else InvoiceOrder.UPDATED
        asked = message.order or usual
        if asked not in _ORDERS:
            wrong.add("order", f"is no order: {int(asked)}")
        order, descending = _ORDERS.get(asked, (Order.CREATED, False))
        query = InvoiceQuery(
            user_id=_own_user(user_id),
            assets=tuple(message.assets),
            states=tuple(states),
            updated_since_ms=since_ms,
            order=order,
            descending=descending,
        )
        wrong.check()
        if message.page_token:
            try:
                query = replace(query, after=read_cursor(message.page_token, query))
            except CursorError as error:
                wrong.add("page_token", str(error).replace("`next`", "`next_page_token`"))
        wrong.check()
        return query, message.page_size or PAGE

    async def _filter(self, message: WatchInvoicesRequest) -> Filter:
        wrong = Violations()
        user_id = wrong.uuid("user_id", message.user_id) if message.user_id else None
        invoice_id = wrong.uuid("invoice_id", message.invoice_id) if message.invoice_id else None
        for number, kind in enumerate(message.types):
            if kind not in EVENT_KINDS:
                known = ", ".join(EVENT_KINDS)
                wrong.add(f"types[{number}]", f"is no event: {kind[:60]!r}; there are {known}")
        heartbeat = message.heartbeat
        if heartbeat is not None and not _HEARTBEATS[0] <= heartbeat <= _HEARTBEATS[1]:
            wrong.add("heartbeat", f"must be 1 to 60 s, not {heartbeat.total_seconds():g} s")
        wrong.check()
        if user_id is not None:
            with store_failures():
                known_user = sees(user_id) and await self._invoicing.has_user(user_id)
            if not known_user:
                raise _refused(NoSuchUser(user_id))
        if invoice_id is not None:
            await self._known(message.invoice_id)
        return Filter(
            user_id=_own_user(user_id),
            invoice_id=invoice_id,
            types=tuple(dict.fromkeys(message.types)),
        )

    # --- answers ----------------------------------------------------------------------------------

    async def _known(self, text: str) -> InvoiceRow:
        """The invoice, if it exists for the caller."""
        wrong = Violations()
        invoice_id = wrong.uuid("invoice_id", text)
        wrong.check()
        assert invoice_id is not None
        with store_failures():
            row = await self._invoicing.invoice(invoice_id)
        if isinstance(row, NoSuchInvoice):
            raise _refused(row)
        if not sees(row.invoice.terms.user_id):
            raise _refused(NoSuchInvoice(invoice_id))
        return row

    def _message(self, invoice: Invoice) -> WireInvoice:
        health = self._invoicing.health(invoice.terms.chain)
        return invoice_message(invoice, self._invoicing.catalogue, health)

    def _situation(self, chain_id: str) -> ChainSituation:
        health = self._invoicing.health(chain_id)
        if health is None:
            return ChainSituation("disabled", None, None, None)
        tip_height = health.tip.height if health.tip else None
        return ChainSituation(health.state.value, health.reason, tip_height, health.as_of_ms)


def _own_user(asked: UUID | None) -> UUID | None:
    """The user to look at: a caller who is restricted to one sees that one's."""
    own = current_caller().user_id
    if own is None:
        return asked
    if asked is not None and asked != own:
        raise _refused(NoSuchUser(asked))
    return own


def _refused(refusal: Refusal) -> Exception:
    return refused(answer(refusal))
