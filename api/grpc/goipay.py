"""GoiPay's two services, wire-exact: texts, order of the checks, and what the stream tells when."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from uuid import UUID

from grpclib.const import Status

from actors.audit import Audit
from actors.core.invoice import Invoice
from actors.core.money import AmountError, from_double
from actors.core.outcomes import (
    AmountRefused,
    NoSuchInvoice,
    NoSuchUser,
    Refusal,
)
from actors.event_hub import EventHub
from actors.invoicing import Invoicing, NewInvoice
from actors.ports import Account, Committed, PersistentError, TransientError
from api.access import current_caller, sees
from api.convert import STATUS_OF, asset_id_of, parse_uuid, wire_invoice
from api.errors import (
    INVOICE_FAILED,
    Answer,
    answer,
    failure,
    invalid_invoice_id,
    invalid_user_id,
)
from api.grpc.call import Call, current_call, pushed
from api.grpc.codec import Encoded
from api.grpc.status import CallError
from api.payment_link import where_to_pay
from proto.goipay.crypto.v1 import XmrKeys
from proto.goipay.invoice.v1 import (
    CreateInvoiceRequest,
    CreateInvoiceResponse,
    GetInvoicesRequest,
    GetInvoicesResponse,
    InvoiceServiceBase,
    InvoiceStatusStreamRequest,
    InvoiceStatusStreamResponse,
)
from proto.goipay.user.v1 import (
    GetCryptoKeysRequest,
    GetCryptoKeysResponse,
    RegisterUserRequest,
    RegisterUserResponse,
    UpdateCryptoKeysRequest,
    UpdateCryptoKeysResponse,
    UserServiceBase,
)

MAX_PAYMENT_IDS = 10_000
"""One GetInvoices; its answer stays below the message limit of clients."""
MONERO = "xmr"
RevealMoneroKeys = Callable[[Account], tuple[str, str]]
"""The private view key and the public spend key of an account, in hexadecimal digits."""


class UserService(UserServiceBase):
    """Users and their keys."""

    def __init__(
        self, invoicing: Invoicing, *, audit: Audit, reveal: RevealMoneroKeys | None
    ) -> None:
        """With `reveal`, GetCryptoKeys hands out view keys; the operator has said so."""
        self._invoicing = invoicing
        self._audit = audit
        self._reveal = reveal

    async def register_user(self, message: RegisterUserRequest) -> RegisterUserResponse:
        wanted = None if message.user_id is None else _user_id(message.user_id)
        with _store_failures():
            outcome = await self._invoicing.register_user(wanted)
            if not isinstance(outcome, UUID):
                raise _refused(outcome)
            await self._audit.record(current_caller(), "user.registered", target=str(outcome))
        return RegisterUserResponse(user_id=str(outcome))

    async def update_crypto_keys(
        self, message: UpdateCryptoKeysRequest
    ) -> UpdateCryptoKeysResponse:
        user_id = await self._known_user(message.user_id)
        given = (
            ("btc", message.btc_req),
            ("ltc", message.ltc_req),
            ("eth", message.eth_req),
            ("bnb", message.bnb_req),
            ("ton", message.ton_req),
        )
        keys = [(chain, request.master_pub_key) for chain, request in given if request is not None]
        if (monero := message.xmr_req) is not None:
            keys.insert(0, (MONERO, f"{monero.priv_view_key}:{monero.pub_spend_key}"))
        with _store_failures():
            refusal = await self._invoicing.set_keys(user_id, keys)
            if refusal is not None:
                raise _refused(refusal)
            await self._audit.record(
                current_caller(),
                "user.keys_set",
                target=str(user_id),
                detail=", ".join(chain for chain, _ in keys),
            )
        return UpdateCryptoKeysResponse()

    async def get_crypto_keys(self, message: GetCryptoKeysRequest) -> GetCryptoKeysResponse:
        """Empty unless the operator has allowed view keys to be handed out."""
        user_id = await self._known_user(message.user_id)
        if self._reveal is None:
            return GetCryptoKeysResponse()
        with _store_failures():
            account = await self._invoicing.account(user_id, MONERO)
            if account is None:
                return GetCryptoKeysResponse()
            view, spend = self._reveal(account)
        return GetCryptoKeysResponse(xmr_keys=XmrKeys(priv_view_key=view, pub_spend_key=spend))

    async def _known_user(self, text: str) -> UUID:
        user_id = _user_id(text)
        with _store_failures():
            known = await self._invoicing.has_user(user_id)
        if not known or not sees(user_id):
            raise _refused(NoSuchUser(user_id))
        return user_id


class InvoiceService(InvoiceServiceBase):
    """Invoices, and the one stream of their statuses."""

    def __init__(self, invoicing: Invoicing, *, hub: EventHub) -> None:
        self._invoicing = invoicing
        self.stream = StatusStream(invoicing, hub)

    async def create_invoice(self, message: CreateInvoiceRequest) -> CreateInvoiceResponse:
        asset_id = asset_id_of(message.coin)
        asset = self._invoicing.asset(asset_id) if asset_id else None
        try:
            amount_base = from_double(message.amount, asset.exponent if asset else 0)
        except AmountError as error:
            raise _refused(AmountRefused(str(error))) from None
        user_id = _user_id(message.user_id)
        if not sees(user_id):
            raise _refused(NoSuchUser(user_id))
        wanted = NewInvoice(
            user_id=user_id,
            asset=asset_id or f"CoinType {int(message.coin)}",
            amount_base=amount_base,
            ttl_ms=message.timeout * 1000,
            confirmations=message.confirmations,
        )
        with _store_failures(persistent_text=INVOICE_FAILED):
            outcome = await self._invoicing.create_invoice(wanted)
        if not isinstance(outcome, Invoice):
            raise _refused(outcome)
        return CreateInvoiceResponse(
            payment_id=str(outcome.terms.invoice_id), address=where_to_pay(outcome.terms)
        )

    def invoice_status_stream(
        self,
        message: InvoiceStatusStreamRequest,  # noqa: ARG002 - it has no fields
    ) -> AsyncIterator[InvoiceStatusStreamResponse]:
        return pushed(self.stream.serve(current_call()))

    async def get_invoices(self, message: GetInvoicesRequest) -> GetInvoicesResponse:
        """The invoices in the order asked for; unknown ids are left out."""
        if len(message.payment_ids) > MAX_PAYMENT_IDS:
            raise CallError(
                Status.INVALID_ARGUMENT,
                f"Too many paymentIds: at most {MAX_PAYMENT_IDS} in one request.",
                reason="TOO_MANY_IDS",
            )
        wanted = [parse_uuid(text) for text in message.payment_ids]
        found = []
        for invoice_id in wanted:
            if invoice_id is None:
                raise _error(invalid_invoice_id())
        for invoice_id in filter(None, wanted):
            with _store_failures():
                row = await self._invoicing.invoice(invoice_id)
            if isinstance(row, NoSuchInvoice) or not sees(row.invoice.terms.user_id):
                continue
            invoice = wire_invoice(row.invoice, self._invoicing.catalogue)
            if invoice is not None:
                found.append(invoice)
        return GetInvoicesResponse(invoices=found)


@dataclass(slots=True)
class _Told:
    """One invoice within a batch: what was told of it last, and its newest state."""

    told: Invoice | None
    newest: Committed
    seqs: list[tuple[int, Invoice]] = field(default_factory=list)


class StatusStream:
    """Every subscriber's copy of the status events, encoded once for all of them.

    An invoice is told when it is created and when its status changes; while its status can still
    change, also when its actual amount or transaction does. CONFIRMED and EXPIRED are told once:
    clients ship goods for each CONFIRMED they hear.
    """

    def __init__(self, invoicing: Invoicing, hub: EventHub) -> None:
        self._invoicing = invoicing
        self._hub = hub
        self._calls: dict[Call, UUID | None] = {}
        self._listening = ExitStack()

    @property
    def subscribers(self) -> int:
        return len(self._calls)

    async def serve(self, call: Call) -> None:
        """Push events into the call until it ends.

        The subscription stands before the headers go out: a client that waits for them, and then
        creates an invoice, hears of it.
        """
        if not self._calls:
            self._listening.enter_context(self._hub.listening(self._publish))
        self._calls[call] = current_caller().user_id
        try:
            # No await between the two: an event in between would have started the answer itself.
            if not call.outlet.closed:
                call.outlet.start()
            await call.sleep_until_closed()
        finally:
            del self._calls[call]
            if not self._calls:
                self._listening.close()

    def _publish(self, batch: Sequence[Committed]) -> None:
        for invoice in news(batch):
            wire = wire_invoice(invoice, self._invoicing.catalogue)
            if wire is None:
                continue
            encoded = Encoded.of(InvoiceStatusStreamResponse(invoice=wire))
            user_id = invoice.terms.user_id
            for call, only in tuple(self._calls.items()):
                if only is None or only == user_id:
                    call.push(encoded)


def news(batch: Sequence[Committed]) -> list[Invoice]:
    """The states in a committed batch that are to be streamed, in order.

    Every change of status is one. A change of amount or transaction is one too, but only as it
    stands at the batch's end: a replacement is committed as the new payment and then the loss of
    the old one, and the sum in between never was.
    """
    invoices: dict[UUID, _Told] = {}
    for committed in batch:
        invoice_id = committed.after.terms.invoice_id
        at = invoices.setdefault(invoice_id, _Told(committed.before, committed))
        at.newest = committed
        if committed.before is None or committed.before.state is not committed.after.state:
            at.seqs.append((committed.seq, committed.after))
            at.told = committed.after
    told = [one for at in invoices.values() for one in at.seqs]
    for at in invoices.values():
        after = at.newest.after
        if after.open and at.told is not None and _visible(at.told) != _visible(after):
            told.append((at.newest.seq, after))
    return [invoice for _, invoice in sorted(told, key=lambda one: one[0])]


def _visible(invoice: Invoice) -> tuple[object, ...]:
    return STATUS_OF[invoice.state], invoice.received_base, invoice.txid


def _user_id(text: str) -> UUID:
    user_id = parse_uuid(text)
    if user_id is None:
        raise _error(invalid_user_id())
    return user_id


def _refused(refusal: Refusal) -> CallError:
    return _error(answer(refusal))


def _error(told: Answer, *, text: str | None = None) -> CallError:
    return CallError(
        Status(told.kind.grpc),
        text or told.goipay,
        reason=told.kind.reason,
        facts={**told.facts, "detail": told.detail},
    )


@contextmanager
def _store_failures(*, persistent_text: str | None = None) -> Iterator[None]:
    """Answer the world's failures as GoiPay does: with a bare text, and the cause beside it."""
    try:
        yield
    except TransientError as error:
        raise _error(failure(error)) from error
    except PersistentError as error:
        raise _error(failure(error), text=persistent_text) from error
