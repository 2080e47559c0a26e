"""A merchant's backend: it asks for invoices over every wire, and insists until it is answered."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import trio

from actors.core.policy import Policy
from proto.goipay.crypto.v1 import CoinType
from proto.goipay.invoice.v1 import CreateInvoiceRequest as GoiPayRequest
from proto.goipay.invoice.v1 import CreateInvoiceResponse as GoiPayResponse
from proto.tally.v1 import (
    CancelInvoiceRequest,
    CancelInvoiceResponse,
    CreateInvoiceRequest,
    CreateInvoiceResponse,
    InvoiceStatus,
    PolicyBand,
)
from proto.tally.v1 import Policy as WirePolicy
from tests.helpers.house import CATALOGUE
from tests.sim.lines import GrpcLine, HttpLine, Refused
from tests.sim.process import Gone, Process

TALLY = "/tally.v1.InvoiceService"
TRIES = 60
PASSING = (9, 10, 13, 14, 409, 503)
"""FAILED_PRECONDITION (a chain that is not there), ABORTED, INTERNAL (GoiPay's word for a disk
that a person has to mend), UNAVAILABLE; the same over HTTP."""


@dataclass(frozen=True)
class Wish:
    """An invoice to ask for."""

    chain: str
    amount_base: int
    ttl_s: int
    confirmations: int | None
    policy: Policy | None
    channel: str
    """`tally`, `rest` or `goipay`, which knows no keys and no policies."""
    key: str
    twice: bool = False
    """Asked for a second time when it is there."""


@dataclass
class Promise:
    """What a backend was told."""

    invoice_id: UUID
    address: str
    wish: Wish


@dataclass
class Backend:
    """One user's. `run` works on what is queued, until cancelled."""

    user_id: UUID
    present: Callable[[], Process]
    """The process of this moment."""
    promises: list[Promise] = field(default_factory=list)
    cancelled: dict[UUID, bool] = field(default_factory=dict)
    """Invoice → whether the daemon said that it is cancelled."""
    given_up: int = 0
    _work: deque[Any] = field(default_factory=deque)
    _more: trio.Event = field(default_factory=trio.Event)
    _busy: bool = False
    _grpc: GrpcLine | None = None
    _http: HttpLine | None = None

    @property
    def idle(self) -> bool:
        return not self._work and not self._busy

    def wish(self, wish: Wish) -> None:
        self._work.append(wish)
        self._more.set()

    def cancel(self, invoice_id: UUID) -> None:
        self._work.append(invoice_id)
        self._more.set()

    async def run(self) -> None:
        try:
            await self._run()
        finally:
            self._hang_up()

    def _hang_up(self) -> None:
        for line in (self._grpc, self._http):
            if line is not None:
                line.close()
        self._grpc = self._http = None

    async def _run(self) -> None:
        while True:
            while self._work:
                self._busy = True
                wanted = self._work.popleft()
                if isinstance(wanted, UUID):
                    await self._insist(lambda one=wanted: self._cancel(one))
                else:
                    await self._insist(lambda one=wanted: self._create(one))
                self._busy = False
            self._more = trio.Event()
            await self._more.wait()

    async def _insist(self, ask: Callable[[], Any]) -> None:
        """Ask again after every loss and every refusal that may pass."""
        for _ in range(TRIES):
            try:
                await ask()
            except Gone:
                self._hang_up()
            except Refused as refused:
                # Any other refusal is no answer to these requests.
                if refused.status not in PASSING or "bug" in refused.text.lower():
                    raise
            else:
                return
            await trio.sleep(1)
        self.given_up += 1

    async def _create(self, wish: Wish) -> None:
        ask = {"tally": self._by_tally, "rest": self._by_rest, "goipay": self._by_goipay}
        promise = await ask[wish.channel](wish)
        self.promises.append(promise)
        if wish.twice:
            again = await ask[wish.channel](wish)
            assert again == promise, "the same key, and another answer"

    # --- over the wires ---------------------------------------------------------------------------

    def _line(self) -> GrpcLine:
        if self._grpc is None:
            self._grpc = GrpcLine(self.present())
        return self._grpc

    async def _by_tally(self, wish: Wish) -> Promise:
        request = CreateInvoiceRequest(
            user_id=str(self.user_id),
            asset=CATALOGUE.chains[wish.chain].coin,
            amount_base=str(wish.amount_base),
            ttl=timedelta(seconds=wish.ttl_s),
            confirmations=wish.confirmations,
            policy=None if wish.policy is None else _wire(wish.policy),
            metadata={"key": wish.key},
            idempotency_key=wish.key,
        )
        answer = await self._line().call(f"{TALLY}/CreateInvoice", request, CreateInvoiceResponse)
        made = answer.invoice
        assert made.status is InvoiceStatus.PENDING, "a repetition is answered as the first"
        return Promise(UUID(made.id), made.address, wish)

    async def _by_goipay(self, wish: Wish) -> Promise:
        coin = CATALOGUE.chains[wish.chain].coin
        exponent = CATALOGUE.assets[coin].exponent
        request = GoiPayRequest(
            user_id=str(self.user_id),
            coin=CoinType[coin],
            amount=wish.amount_base / 10**exponent,
            timeout=wish.ttl_s,
            confirmations=wish.confirmations or 0,
        )
        path = "/invoice.v1.InvoiceService/CreateInvoice"
        answer = await self._line().call(path, request, GoiPayResponse)
        return Promise(UUID(answer.payment_id), answer.address, wish)

    async def _by_rest(self, wish: Wish) -> Promise:
        if self._http is None:
            self._http = HttpLine(self.present())
        body = {
            "user_id": str(self.user_id),
            "asset": CATALOGUE.chains[wish.chain].coin,
            "amount_base": str(wish.amount_base),
            "expires_in": wish.ttl_s,
            "metadata": {"key": wish.key},
        }
        if wish.confirmations is not None:
            body["confirmations"] = wish.confirmations
        status, made = await self._http.call("POST", "/v1/invoices", body, Idempotency_Key=wish.key)
        if status != 201:
            raise Refused(status, str(made))
        assert made["status"] == "PENDING", "a repetition is answered as the first"
        return Promise(UUID(made["id"]), made["address"], wish)

    async def _cancel(self, invoice_id: UUID) -> None:
        request = CancelInvoiceRequest(invoice_id=str(invoice_id))
        try:
            answer = await self._line().call(
                f"{TALLY}/CancelInvoice", request, CancelInvoiceResponse
            )
        except Refused as refused:
            if refused.status != 9:  # FAILED_PRECONDITION: it cannot be cancelled any more
                raise
            self.cancelled[invoice_id] = False
            return
        assert answer.invoice.status is InvoiceStatus.CANCELLED
        self.cancelled[invoice_id] = True


def _wire(policy: Policy) -> WirePolicy:
    return WirePolicy(
        bands=[
            PolicyBand(from_base=str(one.from_base), confirmations=one.confirmations)
            for one in policy.bands
        ],
        rbf_confirmations=policy.rbf_confirmations,
        tolerance_base=str(policy.tolerance_base) if policy.tolerance_base else "",
        tolerance_bps=policy.tolerance_bps,
        accept_late=timedelta(seconds=policy.accept_late_s),
    )
